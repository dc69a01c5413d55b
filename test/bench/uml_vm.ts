/** User-mode Linux with its root on the host, as a machine that runs commands. */

import { type ChildProcess, spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { LabError } from "../vm/host.ts";
import { Lane, Lanes, type Output, type Result, type Sent } from "../vm/lane.ts";
import { program } from "../vm/machines.ts";
import { MachineError, Vm } from "../vm/vm.ts";

const MEMORY_MIB = 1024;
const BOOT_SECONDS = 60;
const CONSOLE_KEPT = 16 * 1024;
/** Serial lines, after standard input, output and error: two for each lane. */
const LINES = [3, 4, 5, 6];

export interface UmlOptions {
  /** The kernel. */
  uml: string;
  line: string;
  kublk: string;
}

export class UmlVm extends Vm {
  readonly kernel: string;
  readonly data = "/tmp";
  readonly #child: ChildProcess;
  readonly #lanes: Lanes;
  readonly #harness: Lanes;
  protected readonly ended: Promise<string>;
  #console = "";
  readonly #kill = () => void this.#child.kill("SIGKILL");

  private constructor(child: ChildProcess, line: string) {
    super();
    this.kernel = line;
    this.#child = child;
    const [out, err, out2, err2] = ports(child);
    if (!out || !err || !out2 || !err2) throw new LabError("User-mode Linux has no serial lines");
    this.#lanes = new Lanes(1, () => new Lane(out, err));
    this.#harness = new Lanes(1, () => new Lane(out2, err2));
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (bytes: Buffer) => {
        this.#console = (this.#console + bytes.toString()).slice(-CONSOLE_KEPT);
      });
    }
    process.once("exit", this.#kill);
    this.ended = new Promise((resolve) => {
      const say = (why: string) => resolve(`${why}\n${this.#console.slice(-4000)}`);
      child.once("error", (error) => say(error.message));
      child.once("close", (code, signal) => say(signal ?? `exit status ${code}`));
    });
  }

  static async boot({ uml, line, kublk }: UmlOptions): Promise<UmlVm> {
    const init = join(import.meta.dir, "native_init");
    const lane = join(import.meta.dir, "../vm/guest/lane");
    const args = [
      ...[`mem=${MEMORY_MIB}M`, "seccomp=on", "root=/dev/root", "rootfstype=hostfs", "ro"],
      ...["quiet", "con=null", "con0=fd:0,fd:1", "ssl=null", "init=/bin/bash"],
      ...LINES.map((fd, number) => `ssl${number}=fd:${fd}`),
      ...[`LANE=${lane}`, `UBLK=${program}`, `KUBLK=${kublk}`],
      ...["--", init],
    ];
    const stdio = Array.from({ length: 3 + LINES.length }, () => "pipe" as const);
    const child = spawn("setpriv", ["--pdeathsig", "KILL", uml, ...args], { stdio });
    const vm = new UmlVm(child, line);
    const ready = new Promise((resolve) => ports(child)[0]?.once("data", () => resolve(undefined)));
    const late = Bun.sleep(BOOT_SECONDS * 1000).then(() => `not ready after ${BOOT_SECONDS} s`);
    const failed = await Promise.race([ready, late, vm.ended]);
    if (failed === undefined) return vm;
    await vm.close();
    throw new LabError(`User-mode Linux does not boot: ${String(failed)}\n${vm.#console}`);
  }

  get spare(): string {
    throw new MachineError("User-mode Linux has no spare disk here");
  }

  protected override send(text: string, live: Output): Promise<Sent> {
    return this.#lanes.send(text, live);
  }

  override async harness(text: string): Promise<Result> {
    return (await this.#harness.send(text)).result;
  }

  /**
   * Microseconds of user time so far, by process id on the host. Each address space of the guest is
   * a process of the host, which runs its code and none of the guest's kernel.
   */
  async userTimes(): Promise<Map<number, number>> {
    const times = new Map<number, number>();
    for (const name of await readdir("/proc")) {
      const stat = /^\d+$/.test(name)
        ? await readFile(`/proc/${name}/stat`, "utf8").catch(() => "")
        : "";
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(fields[1]) === this.#child.pid)
        times.set(Number(name), Number(fields[11]) * 10_000);
    }
    return times;
  }

  override async pullThePlug(): Promise<void> {
    this.#kill();
    await this.ended;
  }

  override reboot(): Promise<void> {
    throw new MachineError("User-mode Linux is booted once");
  }

  override async close(): Promise<void> {
    await this.pullThePlug();
    process.off("exit", this.#kill);
  }
}

const ports = (child: ChildProcess): Duplex[] => LINES.map((fd) => child.stdio[fd] as Duplex);
