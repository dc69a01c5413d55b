/** A ring that completes everything at once and allocates nothing, to look at what others do. */

import type { ThreadRing } from "../../src/queue/assemble.ts";

const SQE_WORDS = 16;
const IORING_OP_URING_CMD = 46;
const SKIP_SUCCESS = 1 << 6;
const FETCH_REQ = 0xc0107520 | 0;
const COMMIT_AND_FETCH_REQ = 0xc0107521 | 0;
const IOD_WORDS = 6;
const OPS = 3; // READ, WRITE, FLUSH by turns
const SECTORS = 8;
const ABORT = -19;

export class StillRing implements ThreadRing {
  readonly sqes: Int32Array;
  readonly entries: number;
  readonly drained = true;
  readonly #iods: Int32Array;
  readonly #slots: Int32Array;
  readonly #metas: Int32Array;
  readonly #results: Int32Array;
  #requests: number;
  #head = 0;
  #tail = 0;
  #cqHead = 0;
  #cqTail = 0;

  /** Brings `requests` requests to the tags of one queue, whose iods it fills, then aborts. */
  constructor(entries: number, iods: Int32Array, requests: number) {
    this.entries = entries;
    this.#iods = iods;
    this.#requests = requests;
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
    if ((this.sqes[at]! & 0xff) !== IORING_OP_URING_CMD) return this.sqes[at + 6]!;
    const cmdOp = this.sqes[at + 2]!;
    if (cmdOp !== FETCH_REQ && cmdOp !== COMMIT_AND_FETCH_REQ) return 0;
    return this.#request(this.sqes[at + 12]! >>> 16);
  }

  /** Puts the next request into the tag's iod. */
  #request(tag: number): number {
    if (this.#requests === 0) return ABORT;
    this.#requests--;
    const iod = tag * IOD_WORDS;
    this.#iods[iod] = this.#requests % OPS;
    this.#iods[iod + 1] = SECTORS;
    this.#iods[iod + 2] = (this.#requests & 0xffff) * SECTORS;
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
