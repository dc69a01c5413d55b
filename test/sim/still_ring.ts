/** A ring that completes everything at once and allocates nothing, to look at what others do. */

import type { ThreadRing } from "../../src/queue/assemble.ts";
import type { SyncFile } from "../../src/target/file_io.ts";
import { bytesAt } from "../../src/target/memory.ts";

const SQE_WORDS = 16;
const IORING_OP_URING_CMD = 46;
const SKIP_SUCCESS = 1 << 6;
const FETCH_REQ = 0xc0107520 | 0;
const COMMIT_AND_FETCH_REQ = 0xc0107521 | 0;
const IOD_WORDS = 6;
/** So many go from the begin of the disk to its end. */
export const STILL_DISK_REQUESTS = 1 << 8;
const REQUESTS_MASK = STILL_DISK_REQUESTS - 1;
const ABORT = -19;
const IORING_OP_READ = 22;
const TWO_32 = 2 ** 32;

/** What the requests are. */
export interface Still {
  requests: number;
  /** READ, WRITE, FLUSH by turns, or fewer of these. */
  ops: number;
  /** Of each request. */
  sectors: number;
  /** Where reads into the server's own memory get their bytes; from nowhere otherwise. */
  tables?: SyncFile;
}

export class StillRing implements ThreadRing {
  readonly sqes: Int32Array;
  readonly entries: number;
  readonly drained = true;
  readonly #iods: Int32Array;
  readonly #slots: Int32Array;
  readonly #metas: Int32Array;
  readonly #results: Int32Array;
  readonly #still: Still;
  #requests: number;
  #head = 0;
  #tail = 0;
  #cqHead = 0;
  #cqTail = 0;

  /** Brings requests to the tags of one queue, whose iods it fills, then aborts. */
  constructor(entries: number, iods: Int32Array, still: Still) {
    this.entries = entries;
    this.#iods = iods;
    this.#still = still;
    this.#requests = still.requests;
    this.sqes = new Int32Array(entries * SQE_WORDS);
    this.#slots = new Int32Array(entries);
    this.#metas = new Int32Array(entries);
    this.#results = new Int32Array(entries);
  }

  registerFiles(): void {}
  registerSparseBuffers(): void {}
  registerBufferRing(): void {}
  close(): void {}

  nextSqe(): number {
    return this.nextSqeKeeping(0);
  }

  roomFor(count: number, reserved: number): boolean {
    return this.#tail - this.#head + count <= this.entries - reserved;
  }

  nextSqeKeeping(reserved: number): number {
    if (!this.roomFor(1, reserved)) return -1;
    return (this.#tail++ % this.entries) * SQE_WORDS;
  }

  submit(): number {
    return 0;
  }

  submitAndWait(): number {
    for (; this.#head < this.#tail; this.#head++) {
      const at = (this.#head % this.entries) * SQE_WORDS;
      const result = this.#result(at);
      const skips = ((this.sqes[at]! >>> 8) & SKIP_SUCCESS) !== 0;
      if (!skips) this.#complete(at, result);
    }
    return 0;
  }

  /** Bytes as they were asked for; a new request for a commit; 0 for other commands. */
  #result(at: number): number {
    const opcode = this.sqes[at]! & 0xff;
    if (opcode === IORING_OP_READ && this.#still.tables !== undefined) this.#read(at);
    if (opcode !== IORING_OP_URING_CMD) return this.sqes[at + 6]!;
    const cmdOp = this.sqes[at + 2]!;
    if (cmdOp !== FETCH_REQ && cmdOp !== COMMIT_AND_FETCH_REQ) return 0;
    return this.#request(this.sqes[at + 12]! >>> 16);
  }

  #read(at: number): void {
    const [low, high] = [this.sqes[at + 4]! >>> 0, this.sqes[at + 5]!];
    const offset = this.sqes[at + 3]! * TWO_32 + (this.sqes[at + 2]! >>> 0);
    this.#still.tables!.read(bytesAt(high * TWO_32 + low, this.sqes[at + 6]!), offset);
  }

  /** Puts the next request into the tag's iod. */
  #request(tag: number): number {
    if (this.#requests === 0) return ABORT;
    this.#requests--;
    const iod = tag * IOD_WORDS;
    const { ops, sectors } = this.#still;
    this.#iods[iod] = this.#requests % ops;
    this.#iods[iod + 1] = sectors;
    this.#iods[iod + 2] = (this.#requests & REQUESTS_MASK) * sectors;
    this.#iods[iod + 3] = 0;
    return 0;
  }

  #complete(at: number, result: number): void {
    const cqe = this.#cqTail++ % this.entries;
    this.#slots[cqe] = this.sqes[at + 8]!;
    this.#metas[cqe] = this.sqes[at + 9]!;
    this.#results[cqe] = result;
  }

  cqReady(): number {
    return this.#cqTail - this.#cqHead;
  }

  cqSlot(): number {
    return this.#slots[this.#cqHead % this.entries]!;
  }

  cqMeta(): number {
    return this.#metas[this.#cqHead % this.entries]!;
  }

  cqRes(): number {
    return this.#results[this.#cqHead % this.entries]!;
  }

  cqFlags(): number {
    return 0;
  }

  cqAdvance(): void {
    this.#cqHead++;
  }
}
