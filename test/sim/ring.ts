/** A simulated ring: SQEs go to simulated files, completions come when the world gets to them. */

import { EAGAIN, EBADF, EBUSY, EINTR } from "./errno.ts";
import type { Ring } from "../../ffi/io_uring.ts";
import { readSqe, type Sqe } from "./sqe.ts";

const SQE_WORDS = 16;
const FIXED_FILE = 1;

/** A completion; `reaped` once the server has taken it. */
export interface Cqe {
  slot: number;
  meta: number;
  res: number;
  reaped: boolean;
}

/** Completes the submission it came with, once. */
export type Done = (res: number) => Cqe;

/** What a registered file number stands for. */
export interface SimFile {
  submit(sqe: Sqe, done: Done): void;
}

/** What goes on while the server sleeps. */
export interface Surroundings {
  /** Lets one thing happen. False when nothing can: the server would sleep for ever. */
  step(): boolean;
  /** Throws when a rule has been broken; the server's own `catch` must not hide it. */
  check(): void;
  broke(error: unknown): void;
}

/** How many of the queued SQEs the kernel takes this time, or its -errno. */
export type Intake = (queued: number) => number;

export class SimRing implements Ring {
  readonly sqes: Int32Array;
  readonly entries: number;
  readonly #files: readonly SimFile[];
  readonly #world: Surroundings;
  readonly #intake: Intake;
  #head = 0;
  #tail = 0;
  readonly #cq: Cqe[] = [];

  constructor(entries: number, files: readonly SimFile[], world: Surroundings, intake?: Intake) {
    this.entries = entries;
    this.sqes = new Int32Array(entries * SQE_WORDS).fill(-1);
    this.#files = files;
    this.#world = world;
    this.#intake = intake ?? ((queued) => queued);
  }

  nextSqe(): number {
    return this.nextSqeKeeping(0);
  }

  roomFor(count: number, reserved: number): boolean {
    const limit = this.entries - reserved - count;
    if (this.#queued() > limit) this.#enter();
    return this.#queued() <= limit;
  }

  nextSqeKeeping(reserved: number): number {
    if (!this.roomFor(1, reserved)) return -1;
    return (this.#tail++ % this.entries) * SQE_WORDS;
  }

  submit(): number {
    const taken = this.#enter();
    return taken >= 0 || isTransient(taken) ? this.#queued() : taken;
  }

  submitAndWait(): number {
    this.#world.check();
    const queued = this.#queued();
    const taken = this.#enter();
    if (isTransient(taken)) return 0;
    if (taken < 0) return taken;
    if (taken < queued) return 0; // the kernel sleeps only when it took all
    while (this.#cq.length === 0) {
      this.#world.check();
      if (!this.#world.step()) throw new Error("the server sleeps for ever: nothing can complete");
    }
    this.#world.check();
    return 0;
  }

  cqReady(): number {
    return this.#cq.length;
  }

  cqSlot(): number {
    return this.#cq[0]!.slot;
  }

  cqMeta(): number {
    return this.#cq[0]!.meta | 0;
  }

  cqRes(): number {
    return this.#cq[0]!.res;
  }

  cqFlags(): number {
    return 0;
  }

  cqAdvance(): void {
    this.#cq.shift()!.reaped = true;
  }

  /** SQEs that no submission has carried to the kernel yet. */
  queued(): number {
    return this.#queued();
  }

  #queued(): number {
    return this.#tail - this.#head;
  }

  #enter(): number {
    const queued = this.#queued();
    const take = queued === 0 ? 0 : this.#intake(queued);
    for (let taken = 0; taken < take; taken++) {
      const at = (this.#head++ % this.entries) * SQE_WORDS;
      const sqe = readSqe(this.sqes, at);
      // Whoever relies on what was here before sets bits that nobody meant.
      this.sqes.fill(-1, at, at + SQE_WORDS);
      this.#submit(sqe);
    }
    return take;
  }

  #submit(sqe: Sqe): void {
    let completed = false;
    const done: Done = (res) => {
      if (completed) throw new Error("completed twice");
      completed = true;
      const cqe = { slot: sqe.slot, meta: sqe.meta, res, reaped: false };
      this.#cq.push(cqe);
      return cqe;
    };
    const file = sqe.flags === FIXED_FILE ? this.#files[sqe.file] : undefined;
    try {
      if (file === undefined) done(-EBADF);
      else file.submit(sqe, done);
    } catch (error) {
      this.#world.broke(error);
    }
  }
}

function isTransient(result: number): boolean {
  return result === -EINTR || result === -EAGAIN || result === -EBUSY;
}
