/** The server's queue thread, as production builds it, over a simulated ring, driver and disk. */

import { CopyIo } from "../../src/queue/io_copy.ts";
import type { QueueIo } from "../../src/queue/io.ts";
import { Loop } from "../../src/queue/loop.ts";
import { TagCommands } from "../../src/queue/commands.ts";
import { type Handlers, type QueueContext, ZEROES_MAX } from "../../src/target/target.ts";
import { SimDisk, SimZero } from "./disk.ts";
import { READ, type Request, SimDriver, WRITE } from "./driver.ts";
import { Memory } from "./memory.ts";
import { Platter } from "./platter.ts";
import { Random } from "./random.ts";
import { type Intake, SimRing } from "./ring.ts";

export const SECTOR = 512;
export const KiB = 1024;
export const MiB = 1024 * KiB;

export interface WorldOptions {
  seed: number;
  attach: (context: QueueContext) => Handlers;
  queues?: number;
  depth?: number;
  maxIoBytes?: number;
  /** Bytes of the backing file. */
  fileSize?: number;
  /** SQEs a slot, as in worker.ts. */
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

const ZEROES = Buffer.alloc(ZEROES_MAX);

export class World {
  readonly random: Random;
  readonly disk: SimDisk;
  readonly driver: SimDriver;
  readonly ring: SimRing;
  readonly loop: Loop;
  /** What the loop complained of. */
  readonly complaints: unknown[] = [];
  /** Called when nothing can happen by itself; false when there is nothing to do either. */
  whenQuiet: () => boolean = () => this.stopOnce();
  readonly sources: Source[];
  readonly #memory = new Memory();
  readonly #zeroes: Uint8Array;
  #broken: unknown;
  #stopped = false;

  constructor(options: WorldOptions) {
    const { queues = 1, depth = 4, maxIoBytes = 64 * KiB, fileSize = MiB } = options;
    this.random = new Random(options.seed);
    this.disk = new SimDisk(new Platter(fileSize), this.#memory, this.random);
    this.driver = new SimDriver({ queues, depth, maxIoBytes }, this.#memory, this.random);
    this.sources = [this.driver, this.disk];
    const slots = queues * depth;
    const files = [this.driver, this.disk, new SimZero(this.#memory)];
    const entries = slots * (options.sqesPerSlot ?? 2);
    this.ring = new SimRing(entries, files, this, options.intake);
    const zeroes = this.#memory.map(ZEROES_MAX);
    this.#memory.allow("zeroes", zeroes.address, ZEROES_MAX, () => "they must stay zeros");
    this.#zeroes = this.#memory.source(zeroes.address, ZEROES_MAX);
    const buffers = this.#memory.map(slots * maxIoBytes);
    const shared = { ring: this.ring, reserved: slots, zeroes: zeroes.address, zeroFile: 2 };
    const ios: QueueIo[] = [];
    for (let slot = 0; slot < slots; slot++) {
      const queueId = Math.floor(slot / depth);
      const address = buffers.address + slot * maxIoBytes;
      ios.push(new CopyIo(slot, queueId, slot % depth, shared, address));
    }
    const commands = new TagCommands(this.ring, ios, this.driver.iods);
    const complain = (error: unknown): void => void this.complaints.push(error);
    const runnable: QueueIo[] = [];
    const handlers = options.attach({ runnable, allocate: (length) => this.#allocate(length) });
    this.loop = new Loop(this.ring, ios, commands, handlers, runnable, complain);
  }

  /** Memory of a target, which the kernel may read and fill at any time. */
  #allocate(length: number): number {
    const { address } = this.#memory.map(length);
    this.#memory.allow("the target's memory", address, length, () => undefined);
    return address;
  }

  ask(request: Omit<Request, "bytes" | "ended"> & { bytes?: Uint8Array }): Asked {
    const hasData = request.op === READ || request.op === WRITE;
    const length = hasData ? request.sectors * SECTOR : 0;
    const bytes = request.bytes ?? new Uint8Array(length).fill(POISON);
    const asked: Asked = { bytes, result: undefined };
    const ended = (result: number): void => {
      if (asked.result !== undefined) throw new Error("a request ended twice");
      asked.result = result;
    };
    this.driver.queue({ ...request, bytes, ended });
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
      if (!ZEROES.equals(this.#zeroes)) throw new Error("the zeroes were written to");
      return failure;
    } finally {
      this.#memory.free();
    }
  }

  step(): boolean {
    const ready = this.sources.filter((source) => source.ready() > 0);
    if (ready.length === 0) return this.whenQuiet();
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
