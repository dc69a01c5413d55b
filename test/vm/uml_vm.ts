/** User-mode Linux with its root on the host, as a machine that runs commands. */

import { type ChildProcess, spawn } from "node:child_process";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { passingDir } from "./cache.ts";
import { LabError } from "./host.ts";
import { Lane, Lanes, type Output, type Result, type Sent } from "./lane.ts";
import { quote } from "./quote.ts";
import { MachineError, Vm } from "./vm.ts";

const MEMORY_MIB = 1024;
const BOOT_SECONDS = 60;
const CONSOLE_KEPT = 16 * 1024;
/** A serial line forgets what comes faster than it is read, beyond 4 KiB. */
const SCRIPT_MAX = 2000;
/** Serial lines come after standard input, output and error: two for each lane. */
const FIRST_LINE = 3;

export interface UmlOptions {
  /** The kernel. */
  uml: string;
  line: string;
  /** Put on the guest's PATH. */
  program: string;
  kublk?: string;
  /** So many commands can run at the same time. */
  lanes?: number;
  cpus?: number;
}

export class UmlVm extends Vm {
  readonly kernel: string;
  readonly data = "/tmp";
  override readonly native = true;
  readonly #child: ChildProcess;
  /** What is too long for a serial line is read from here. */
  readonly #dir: string;
  #scripts = 0;
  readonly #lanes: Lanes;
  readonly #harness: Lanes;
  protected readonly ended: Promise<string>;
  #console = "";
  readonly #kill = () => void this.#child.kill("SIGKILL");

  private constructor(child: ChildProcess, line: string, lanes: number, dir: string) {
    super();
    this.#dir = dir;
    this.kernel = line;
    this.#child = child;
    const lines = ports(child);
    const next = (): Lane => {
      const [out, err] = lines.splice(0, 2);
      if (!out || !err) throw new LabError("User-mode Linux has no serial lines");
      return new Lane(out, err);
    };
    this.#harness = new Lanes(1, next);
    this.#lanes = new Lanes(lanes, next);
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

  static async boot({
    uml,
    line,
    program,
    kublk = "",
    lanes = 1,
    cpus = 1,
  }: UmlOptions): Promise<UmlVm> {
    const init = join(import.meta.dir, "guest/native_init");
    const lane = join(import.meta.dir, "guest/lane");
    const lines = 2 * (1 + lanes);
    const args = [
      ...[
        `mem=${MEMORY_MIB}M`,
        `ncpus=${cpus}`,
        "seccomp=on",
        "root=/dev/root",
        "rootfstype=hostfs",
        "ro",
      ],
      ...["quiet", "con=null", "con0=fd:0,fd:1", "ssl=null", "init=/bin/bash"],
      ...Array.from({ length: lines }, (_, number) => `ssl${number}=fd:${FIRST_LINE + number}`),
      ...[`LANE=${lane}`, `UBLK=${program}`, `KUBLK=${kublk}`, `LANES=${1 + lanes}`],
      ...["--", init],
    ];
    const stdio = Array.from({ length: FIRST_LINE + lines }, () => "pipe" as const);
    const child = spawn("setpriv", ["--pdeathsig", "KILL", uml, ...args], { stdio });
    const vm = new UmlVm(child, line, lanes, await passingDir());
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

  protected override async send(text: string, live: Output): Promise<Sent> {
    if (text.length <= SCRIPT_MAX) return this.#lanes.send(text, live);
    const path = join(this.#dir, String(this.#scripts++));
    await Bun.write(path, text);
    return this.#lanes.send(`. ${quote(path)}`, live);
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
    await rm(this.#dir, { recursive: true, force: true });
  }
}

const ports = (child: ChildProcess): Duplex[] => child.stdio.slice(FIRST_LINE) as Duplex[];
