/** The server's queue thread, as production builds it, over a simulated ring, driver and disk. */

import { Arena } from "../../ffi/arena.ts";
import { type Assembly, assemble } from "../../src/queue/assemble.ts";
import type { ThreadShape } from "../../src/target/thread_shape.ts";
import type { QueueIo } from "../../src/queue/io.ts";
import { KIND_RESIZE, userMeta } from "../../src/queue/user_data.ts";
import { Loop } from "../../src/queue/loop.ts";
import type { Handlers, QueueContext } from "../../src/target/target.ts";
import { SimDisk, SimZero } from "./disk.ts";
import { SimDriver } from "./driver.ts";
import { Memory } from "./memory.ts";
import { Platter } from "./platter.ts";
import { Random } from "./random.ts";
import { type Intake, type SimFile, SimRing } from "./ring.ts";
import { hasData, type Request } from "./tags.ts";
import { SimTimers } from "./timers.ts";
import { toArrayBuffer, type Pointer } from "bun:ffi";

export const SECTOR = 512;
export const KiB = 1024;
export const MiB = 1024 * KiB;

/** How bytes and commands travel. */
export interface Way {
  mode: ThreadShape["mode"];
  batch?: boolean;
  /** Beside registered buffers; in mode user-copy it goes without saying. */
  userCopy?: boolean;
  zeroCopyMin?: number;
  /** Each queue is dealt in so many parts, as to several threads. */
  parts?: number;
}

export interface WorldOptions {
  seed: number;
  attach: (context: QueueContext) => Handlers;
  way?: Way;
  queues?: number;
  depth?: number;
  maxIoBytes?: number;
  /** Bytes of the backing file. */
  fileSize?: number;
  /** Backing files, one after the other; 1 unless told otherwise. */
  disks?: number;
  /** For targets that must not run out of SQEs: so many a slot, where production has fewer. */
  sqesPerSlot?: number;
  intake?: Intake;
}

/** Something that may happen next; the seed decides which of several does. */
export interface Source {
  ready(): number;
  fire(): void;
}

/** A request of a story, and how it ended. */
export interface Asked {
  bytes: Uint8Array;
  /** 0 or -errno; undefined while it is under way. */
  result: number | undefined;
}

/** Pages that nobody has filled show this. */
export const POISON = 0xee;

/** Far more than any story needs. */
const STEPS_MAX = 100_000;

const CHAR_FD = 100;
const ZERO_FD = 101;
const DISK_FD = 102; // and those behind it
const IOD_SIZE = 24;

export class World {
  readonly random: Random;
  /** The first of `disks`. */
  readonly disk: SimDisk;
  readonly disks: readonly SimDisk[];
  readonly driver: SimDriver;
  readonly timers: SimTimers;
  readonly loop: Loop;
  /** What the loop complained of. */
  readonly complaints: unknown[] = [];
  /** How often it told that the disk is swap. */
  swapTold = 0;
  /** Called when nothing can happen by itself; false when there is nothing to do either. */
  whenQuiet: () => boolean = () => this.stopOnce();
  readonly sources: Source[];
  readonly ring: SimRing;
  readonly #assembly: Assembly;
  readonly #iods: Arena;
  #broken: unknown;
  #resized: ((failure: number) => void) | undefined;
  #stopped = false;
  #steps = 0;

  constructor(options: WorldOptions) {
    const { queues = 1, depth = 4, maxIoBytes = 64 * KiB, fileSize = MiB } = options;
    const way = { ...DEFAULT_WAY, ...options.way };
    const userCopy = way.userCopy || way.mode === "user-copy";
    const memory = new Memory();
    this.random = new Random(options.seed);
    const newDisk = (): SimDisk => new SimDisk(new Platter(fileSize), memory, this.random);
    this.disks = Array.from({ length: options.disks ?? 1 }, newDisk);
    this.disk = this.disks[0]!;
    this.#iods = new Arena(queues * depth * IOD_SIZE);
    const iodsLength = depth * IOD_SIZE;
    const iodsAt = (queueId: number): number => this.#iods.address + queueId * iodsLength;
    const views = Array.from(
      { length: queues },
      (_, id) => new DataView(toArrayBuffer(iodsAt(id) as Pointer, 0, iodsLength)),
    );
    const how = { ...way, queues, depth, maxIoBytes, userCopy };
    this.driver = new SimDriver(how, views, memory, this.random);
    this.timers = new SimTimers(memory, this.random);
    this.sources = [this.driver, ...this.disks, this.timers];
    const open = new Map<number, SimFile>([
      [CHAR_FD, this.driver],
      ...this.disks.map((disk, index) => [DISK_FD + index, disk] as const),
      [ZERO_FD, new SimZero(memory)],
    ]);
    const least = queues * depth * (options.sqesPerSlot ?? 0);
    const intake = options.intake ?? ((queued: number): number => queued);
    const makeRing = (entries: number): SimRing =>
      new SimRing(Math.max(entries, least), open, memory, this.timers, this, intake);
    const shares = views.flatMap((_, queueId) =>
      Array.from({ length: Math.min(way.parts, depth) }, (__, firstTag) => ({
        ...{ queueId, depth, firstTag, tagStep: Math.min(way.parts, depth) },
        ...{ iodsAddress: iodsAt(queueId), iodsLength },
      })),
    );
    const files = [CHAR_FD, ...this.disks.map((_, index) => DISK_FD + index), ZERO_FD];
    const shape = { ...way, userCopy, maxIoBytes, pollUs: 0, queues: shares, files };
    this.#assembly = assemble(shape, makeRing);
    const { ios, spare, commands, allocate } = this.#assembly;
    this.ring = this.#assembly.ring as SimRing;
    const complain = (error: unknown): void => void this.complaints.push(error);
    const runnable: QueueIo[] = [];
    const handlers = options.attach({ runnable, allocate });
    const all = [...ios, spare];
    const resized = (failure: number): void => this.#resized?.(failure);
    this.loop = new Loop(this.ring, all, commands, handlers, runnable, complain, undefined, {
      io: spare,
      swaps: () => void this.swapTold++,
      resized,
    });
  }

  /** Another size for the disk, as another thread tells it. `ended` gets 0 or -errno. */
  resize(size: number, ended: (failure: number) => void): void {
    this.#resized = ended;
    const sectors = size / SECTOR;
    this.ring.tell(sectors | 0, userMeta(KIND_RESIZE, 0), Math.floor(sectors / 2 ** 32));
  }

  ask(request: Omit<Request, "bytes" | "ended"> & { bytes?: Uint8Array }): Asked {
    const ended = (result: number): void => {
      if (asked.result !== undefined) throw new Error("a request ended twice");
      asked.result = result;
    };
    const whole = { bytes: new Uint8Array(0), ...request, ended };
    if (hasData(whole) && request.bytes === undefined) {
      whole.bytes = new Uint8Array(request.sectors * SECTOR).fill(POISON);
    }
    const asked: Asked = { bytes: whole.bytes, result: undefined };
    this.driver.queue(whole);
    return asked;
  }

  /** Serves until the device is stopped, and looks whether all the rules were kept. */
  run(): number {
    try {
      const failure = this.loop.run();
      this.check();
      if (failure < 0) return failure; // what it owes now, the driver sees to
      if (this.ring.queued() > 0) throw new Error("commands were left behind");
      this.driver.released();
      return failure;
    } finally {
      this.ring.close();
      this.#assembly.free();
      this.#iods.free();
    }
  }

  step(): boolean {
    return this.#fire() || this.whenQuiet();
  }

  linger(): void {
    while (this.random.chance(0.5) && this.#fire());
  }

  #fire(): boolean {
    if (++this.#steps > STEPS_MAX) throw new Error("things go on happening, and nothing ends");
    const ready = this.sources.filter((source) => source.ready() > 0);
    if (ready.length === 0) return false;
    this.random.pick(ready).fire();
    return true;
  }

  /** STOP_DEV, when every request has ended. */
  stopOnce(): boolean {
    if (this.#stopped) return false;
    this.#stopped = true;
    this.driver.stop();
    return true;
  }

  check(): void {
    if (this.#broken !== undefined) throw this.#broken;
  }

  broke(error: unknown): void {
    this.#broken ??= error;
  }
}

const DEFAULT_WAY: Required<Way> = {
  ...{ mode: "copy", batch: false, userCopy: false, zeroCopyMin: 0, parts: 1 },
};
