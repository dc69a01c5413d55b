// The Vm of a story that runs on this very machine, because its owner asked for that.

import { mkdtemp, readdir, rm } from "node:fs/promises";
import { existsSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { host, LabError } from "./host.ts";
import type { Output, Result, Sent } from "./lane.ts";
import { MachineError, Vm } from "./vm.ts";

export class HostVm extends Vm {
  readonly kernel = "host";
  readonly data: string;
  readonly #spare: string | undefined;
  readonly #program: string;

  readonly #notOurs: string[];

  private constructor(data: string, spare: string | undefined, program: string, others: string[]) {
    super();
    this.#notOurs = others;
    this.data = data;
    this.#spare = spare;
    this.#program = program;
  }

  static async open(program: string): Promise<HostVm> {
    if (process.getuid?.() !== 0) throw new LabError("stories on the host's kernel need root");
    if (!existsSync("/dev/ublk-control")) {
      throw new LabError("this kernel offers no ublk: /dev/ublk-control is missing, try modprobe");
    }
    const data = await mkdtemp(join(tmpdir(), "ublk-lab-"));
    const file = join(data, "spare.img");
    await host(["truncate", "--size=1G", file]);
    await host(["modprobe", "loop"]).catch(() => undefined); // it may be built in, or not there
    const spare = existsSync("/dev/loop-control")
      ? (await host(["losetup", "--find", "--show", file])).trim()
      : undefined;
    return new HostVm(data, spare, program, await devices());
  }

  get spare(): string {
    if (this.#spare) return this.#spare;
    throw new MachineError("the host's kernel has no loop device to serve as a spare disk");
  }

  protected override async send(text: string, live: Output): Promise<Sent> {
    const child = Bun.spawn(["bash", "-c", text], {
      cwd: this.data,
      env: { ...process.env, PATH: `${dirname(this.#program)}:${process.env["PATH"]}` },
      detached: true, // a process group of its own, for signals
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [out, err]: [Buffer[], Buffer[]] = [[], []];
    const soFar = () => ({
      stdout: Buffer.concat(out).toString(),
      stderr: Buffer.concat(err).toString(),
    });
    const read = Promise.all([
      collect(child.stdout, out, live.stdout),
      collect(child.stderr, err, live.stderr),
    ]);
    // A daemon may keep the pipe: the command is over when its own process is.
    const result = child.exited.then(async (code) => {
      await Promise.race([read, Bun.sleep(300)]);
      const killed = child.signalCode
        ? 128 + constants.signals[child.signalCode as NodeJS.Signals]
        : undefined;
      return { status: killed ?? code, ...soFar() };
    });
    return { pid: Promise.resolve(child.pid), result, soFar };
  }

  override async harness(text: string): Promise<Result> {
    return (await this.send(text, {})).result;
  }

  protected override get ended(): Promise<string> {
    return new Promise(() => undefined);
  }

  override pullThePlug(): Promise<void> {
    throw new MachineError("the host's plug stays where it is");
  }

  override reboot(): Promise<void> {
    return this.pullThePlug();
  }

  /** What a story that failed has left is removed; devices of others are not touched. */
  override async close(): Promise<void> {
    await this.killStarted();
    for (const name of await devices()) {
      if (this.#notOurs.includes(name)) continue;
      const id = name.replace("ublkc", "");
      await this.harness(`umount --all-targets /dev/ublkb${id}; timeout 30 ublk del -n ${id}`);
    }
    if (this.#spare) await host(["losetup", "--detach", this.#spare]);
    await rm(this.data, { recursive: true, force: true });
  }
}

const devices = async () => (await readdir("/dev")).filter((name) => /^ublkc\d+$/.test(name));

async function collect(
  stream: ReadableStream<Uint8Array>,
  into: Buffer[],
  live: ((bytes: Buffer) => void) | undefined,
): Promise<void> {
  for await (const bytes of stream) {
    into.push(Buffer.from(bytes));
    live?.(Buffer.from(bytes));
  }
}
