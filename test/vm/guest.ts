// A booted guest: its disks, its lanes, the way it ends.

import { rm } from "node:fs/promises";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { passingDir } from "./cache.ts";
import { host, LabError, note } from "./host.ts";
import type { Kernel } from "./kernel.ts";
import { Lane, Lanes, type Output, type Sent } from "./lane.ts";
import { type Disks, Qemu } from "./qemu.ts";
import { programImage, rootImage, scratchImage } from "./rootfs.ts";

/** So many commands can run at the same time; a QEMU bus has 30 ports, and a lane takes two. */
const STORY_LANES = 11;
const HARNESS_LANES = 3;
const BOOT_SECONDS = 120; // a busy machine was seen to take 37
const BOOTS = 3;

export interface GuestOptions {
  memory?: number;
  cpus?: number;
  kvm?: boolean;
  bootSeconds?: number;
  boots?: number;
}

export class Guest {
  readonly #kernel: Kernel;
  readonly #options: GuestOptions;
  readonly #dir: string;
  readonly #disks: Disks;
  readonly #removeDir = () => rmSync(this.#dir, { recursive: true, force: true });
  #qemu: Qemu | undefined;
  #lanes = 0;
  #forStory = new Lanes(0, () => this.#openLane());
  #forHarness = this.#forStory;

  private constructor(kernel: Kernel, options: GuestOptions, dir: string, disks: Disks) {
    this.#kernel = kernel;
    this.#options = options;
    this.#dir = dir;
    this.#disks = disks;
    process.once("exit", this.#removeDir);
  }

  /** Makes the disks and boots. `program` is put on the guest's PATH as `ublk`. */
  static async boot(kernel: Kernel, program: string, options: GuestOptions = {}): Promise<Guest> {
    const [root, programDisk, scratch] = await Promise.all([
      rootImage(kernel),
      programImage(program),
      scratchImage(),
    ]);
    const dir = await passingDir();
    const [data, spare] = [join(dir, "data.img"), join(dir, "spare.img")];
    const guest = new Guest(kernel, options, dir, { root, program: programDisk, data, spare });
    try {
      await host(["cp", "--sparse=always", "--reflink=auto", scratch, data]);
      await host(["truncate", "--size=1G", spare]);
      await guest.start();
    } catch (error) {
      await guest.close();
      throw error;
    }
    return guest;
  }

  /** Boots with the disks as they are. A guest that dies before it is ready is booted again. */
  async start(): Promise<void> {
    const { bootSeconds: limit = BOOT_SECONDS, boots = BOOTS } = this.#options;
    for (let boot = 1; ; boot++) {
      const qemu = new Qemu({
        vmlinux: join(this.#kernel.dir, "vmlinux"),
        disks: this.#disks,
        memory: this.#options.memory ?? 2048,
        cpus: this.#options.cpus ?? 2,
        kvm: this.#options.kvm ?? false,
        ports: 1 + 2 * (STORY_LANES + HARNESS_LANES),
      });
      const failed = await readiness(qemu, limit);
      if (failed === undefined) return this.#begin(qemu);
      await qemu.kill();
      const said = qemu.console.trim().split("\n").slice(-20).join("\n");
      if (boot === boots) {
        throw new LabError(`${this.#kernel.release} does not boot: ${failed}\n${said}`);
      }
      note(`${this.#kernel.release}: ${failed}; booting again (${boot + 1} of ${boots})\n${said}`);
    }
  }

  #begin(qemu: Qemu): void {
    this.#qemu = qemu;
    this.#lanes = 0;
    this.#forStory = new Lanes(STORY_LANES, () => this.#openLane());
    this.#forHarness = new Lanes(HARNESS_LANES, () => this.#openLane());
  }

  /** A lane more: the guest starts its end when it reads the number. */
  #openLane(): Lane {
    const number = ++this.#lanes;
    const [control, ...ports] = this.#qemu?.ports ?? [];
    const [out, err] = ports.slice(2 * number - 2, 2 * number);
    if (!control || !out || !err) throw new LabError("the guest is not running");
    for (const port of [out, err]) port.resume(); // what nobody listens to is dropped
    control.write(`${number}\n`);
    return new Lane(out, err);
  }

  /** Runs a script in the guest's bash as soon as a lane is free. */
  send(script: string, live?: Output): Promise<Sent> {
    return this.#forStory.send(script, live);
  }

  /** The same for the harness, which must get through when a story has taken all its lanes. */
  sendFirst(script: string): Promise<Sent> {
    return this.#forHarness.send(script);
  }

  /** Connects a terminal with the guest's console; the answer ends that. */
  attach(input: NodeJS.ReadStream, output: NodeJS.WriteStream): () => void {
    const { stdin, stdout } = this.#qemu?.child ?? {};
    if (!stdin || !stdout) throw new LabError("the guest is not running");
    const keys = (bytes: Buffer) => void stdin.write(bytes);
    const screen = (bytes: Buffer) => void output.write(bytes);
    if (input.isTTY) input.setRawMode(true);
    input.on("data", keys);
    stdout.on("data", screen);
    return () => {
      input.off("data", keys).pause();
      stdout.off("data", screen);
      if (input.isTTY) input.setRawMode(false);
    };
  }

  get console(): string {
    return this.#qemu?.console ?? "";
  }

  /** Why QEMU ended, once it has. */
  get ended(): Promise<string> {
    return this.#qemu?.ended ?? Promise.resolve("not running");
  }

  async kill(): Promise<void> {
    await this.#qemu?.kill();
    this.#qemu = undefined;
  }

  async close(): Promise<void> {
    await this.kill();
    process.off("exit", this.#removeDir);
    await rm(this.#dir, { recursive: true, force: true });
  }
}

/** Waits until the guest's first process reports; says what went wrong instead. */
async function readiness(qemu: Qemu, seconds: number): Promise<string | undefined> {
  const ready = new Promise<undefined>((resolve) => {
    qemu.ports[0]?.once("data", () => resolve(undefined));
  });
  const late = Promise.withResolvers<string>();
  const timer = setTimeout(() => late.resolve(`not ready after ${seconds} s`), seconds * 1000);
  const failed = await Promise.race([
    ready,
    late.promise,
    qemu.ended.then((why) => `QEMU ended: ${why}`),
  ]);
  clearTimeout(timer);
  return failed;
}
