/** A simulated ring: SQEs go to simulated files, completions come when the world gets to them. */

import type { ThreadRing } from "../../src/queue/assemble.ts";
import { BufferTable, ProvidedBuffers } from "./buffers.ts";
import { EAGAIN, EBADF, EBUSY, ECANCELED, EFAULT, EINTR } from "./errno.ts";
import type { Memory } from "./memory.ts";
import type { Random } from "./random.ts";
import { readSqe, type Sqe } from "./sqe.ts";
import { type SimTimers, TIMEOUT } from "./timers.ts";

const SQE_WORDS = 16;
const FIXED_FILE = 1 << 0;
const LINK = 1 << 2;
const BUFFER_SELECT = 1 << 5;
const SKIP_SUCCESS = 1 << 6;
const KNOWN_FLAGS = FIXED_FILE | LINK | BUFFER_SELECT | SKIP_SUCCESS;
const CQE_F_MORE = 1 << 1;
/** Turns in which nothing but the server's own commands completed. */
const TURNS_MAX = 1000;
/** READ_FIXED, WRITE_FIXED; READ, WRITE. */
const FIXED_OPCODES = new Set([4, 5]);
const MOVING_OPCODES = new Set([4, 5, 22, 23]);

/** A completion; `reaped` once the server has taken it. */
export interface Cqe {
  slot: number;
  meta: number;
  res: number;
  flags: number;
  reaped: boolean;
}

/** Completes the submission it came with: once, or, with CQE_F_MORE, again and again. */
export type Done = (res: number, flags?: number) => Cqe;

/** What a registered file number stands for. */
export interface SimFile {
  submit(sqe: Sqe, done: Done, ring: SimRing): void;
}

/** What goes on while the server sleeps. */
export interface Surroundings {
  /** Lets one thing happen. False when nothing can: the server would sleep for ever. */
  step(): boolean;
  /** Perhaps lets more happen before the server wakes up. */
  linger(): void;
  /** Throws when a rule has been broken; the server's own `catch` must not hide it. */
  check(): void;
  broke(error: unknown): void;
}

/** How many of the queued SQEs the kernel takes this time, or its -errno. */
export type Intake = (queued: number) => number;

/** Takes nothing, something or all; says now and then that it is busy. */
export function reluctant(random: Random): Intake {
  return (queued) => {
    if (random.chance(0.2)) return -random.pick([EAGAIN, EBUSY, EINTR]);
    return random.chance(0.5) ? queued : random.int(queued + 1);
  };
}

export class SimRing implements ThreadRing {
  readonly sqes: Int32Array;
  readonly entries: number;
  readonly buffers = new BufferTable();
  readonly provided: ProvidedBuffers;
  readonly #open: ReadonlyMap<number, SimFile>;
  #files: (SimFile | undefined)[] = [];
  readonly #timers: SimTimers;
  readonly #world: Surroundings;
  readonly #intake: Intake;
  #head = 0;
  #tail = 0;
  readonly #cq: Cqe[] = [];
  #turns = 0;
  #drained = true;

  /** `open`: what descriptors stand for, for `registerFiles`. */
  constructor(
    entries: number,
    open: ReadonlyMap<number, SimFile>,
    memory: Memory,
    timers: SimTimers,
    world: Surroundings,
    intake: Intake,
  ) {
    this.entries = entries;
    this.sqes = new Int32Array(entries * SQE_WORDS).fill(-1);
    this.#open = open;
    this.provided = new ProvidedBuffers(memory);
    this.#timers = timers;
    this.#world = world;
    this.#intake = intake;
  }

  registerFiles(files: readonly number[]): void {
    this.#files = files.map((fd) => this.#open.get(fd));
  }

  registerSparseBuffers(count: number): void {
    this.buffers.size = count;
  }

  registerBufferRing(address: number, entries: number, group: number): void {
    this.provided.register(address, entries, group);
  }

  close(): void {
    this.buffers.clear();
  }

  nextSqe(): number {
    return this.nextSqeKeeping(0);
  }

  roomFor(count: number, reserved: number): boolean {
    const limit = this.entries - reserved - count;
    if (this.queued() > limit) this.#enter();
    return this.queued() <= limit;
  }

  nextSqeKeeping(reserved: number): number {
    if (!this.roomFor(1, reserved)) return -1;
    return (this.#tail++ % this.entries) * SQE_WORDS;
  }

  submit(): number {
    const taken = this.#enter();
    return taken >= 0 || isTransient(taken) ? this.queued() : taken;
  }

  submitAndWait(): number {
    this.#world.check();
    const queued = this.queued();
    const taken = this.#enter();
    if (isTransient(taken)) return 0;
    if (taken < 0) return taken;
    if (taken < queued) return 0; // the kernel sleeps only when it took all
    if (++this.#turns > TURNS_MAX) throw new Error("the server turns in circles");
    while (this.#cq.length === 0) {
      this.#world.check();
      this.#turns = 0;
      if (!this.#world.step()) throw new Error("the server sleeps for ever: nothing can complete");
    }
    this.#world.linger();
    this.#world.check();
    return 0;
  }

  /** A completion that another thread puts here. */
  tell(slot: number, meta: number, res: number): void {
    this.#cq.push({ slot, meta, res, flags: 0, reaped: false });
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
    return this.#cq[0]!.flags;
  }

  cqAdvance(): void {
    this.#cq.shift()!.reaped = true;
  }

  get drained(): boolean {
    return this.#drained;
  }

  /** SQEs that no submission has carried to the kernel yet. */
  queued(): number {
    return this.#tail - this.#head;
  }

  #enter(): number {
    const queued = this.queued();
    const take = queued === 0 ? 0 : this.#intake(queued);
    let chain: Sqe[] = [];
    let taken = 0;
    // A chain that has begun is taken to its end.
    for (; taken < take || chain.length > 0; taken++) {
      const at = (this.#head++ % this.entries) * SQE_WORDS;
      const sqe = readSqe(this.sqes, at);
      // Whoever relies on what was here before sets bits that nobody meant.
      this.sqes.fill(-1, at, at + SQE_WORDS);
      chain.push(sqe);
      if (sqe.flags & LINK && this.queued() > 0) continue;
      this.#start(chain, 0);
      chain = [];
    }
    this.#drained = this.queued() === 0;
    return take < 0 ? take : taken;
  }

  /** Each link begins when the one before has done all that it was asked for. */
  #start(chain: Sqe[], index: number): void {
    const sqe = chain[index]!;
    const skip = (sqe.flags & SKIP_SUCCESS) !== 0;
    let ended = false;
    const done: Done = (res, flags = 0) => {
      if (ended) throw new Error("completed twice");
      ended = (flags & CQE_F_MORE) === 0;
      const moves = MOVING_OPCODES.has(sqe.opcode);
      const good = res >= 0 && (!moves || res === sqe.length);
      const cqe = { slot: sqe.slot, meta: sqe.meta, res, flags, reaped: false };
      if (!good || !skip) this.#cq.push(cqe);
      if (good && index + 1 < chain.length) this.#start(chain, index + 1);
      if (!good && !skip) this.#cancel(chain.slice(index + 1));
      return cqe;
    };
    try {
      this.#submit(sqe, done);
    } catch (error) {
      this.#world.broke(error);
    }
  }

  /** What hung on a link that failed. With SKIP_SUCCESS on that one, they go in silence. */
  #cancel(links: Sqe[]): void {
    for (const { slot, meta } of links) {
      this.#cq.push({ slot, meta, res: -ECANCELED, flags: 0, reaped: false });
    }
  }

  #submit(sqe: Sqe, done: Done): void {
    if ((sqe.flags & ~KNOWN_FLAGS) !== 0) throw new Error(`SQE flags 0x${sqe.flags.toString(16)}`);
    const file = sqe.flags & FIXED_FILE ? this.#files[sqe.file] : undefined;
    if (FIXED_OPCODES.has(sqe.opcode)) sqe.pages = this.buffers.get(sqe.bufIndex);
    if (sqe.opcode === TIMEOUT) this.#timers.submit(sqe, done);
    else if (file === undefined) done(-EBADF);
    else if (FIXED_OPCODES.has(sqe.opcode) && sqe.pages === undefined) done(-EFAULT);
    else file.submit(sqe, done, this);
  }
}

function isTransient(result: number): boolean {
  return result === -EINTR || result === -EAGAIN || result === -EBUSY;
}
