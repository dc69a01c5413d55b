/** A ring that completes everything at once and allocates nothing, to look at what others do. */

import type { Ring } from "../../ffi/io_uring.ts";

const SQE_WORDS = 16;
const IORING_OP_URING_CMD = 46;
const IOD_WORDS = 6;
const OPS = 3; // READ, WRITE, FLUSH by turns
const SECTORS = 8;
const ABORT = -19;

export class StillRing implements Ring {
  readonly sqes: Int32Array;
  readonly iods: Int32Array;
  readonly #entries: number;
  readonly #slots: Int32Array;
  readonly #metas: Int32Array;
  readonly #results: Int32Array;
  #requests: number;
  #head = 0;
  #tail = 0;
  #cqHead = 0;
  #cqTail = 0;

  /** Brings `requests` requests to `depth` tags, then aborts. */
  constructor(depth: number, requests: number) {
    this.#entries = depth * 2;
    this.#requests = requests;
    this.sqes = new Int32Array(this.#entries * SQE_WORDS);
    this.iods = new Int32Array(depth * IOD_WORDS);
    this.#slots = new Int32Array(this.#entries);
    this.#metas = new Int32Array(this.#entries);
    this.#results = new Int32Array(this.#entries);
  }

  nextSqe(): number {
    return this.nextSqeKeeping(0);
  }

  roomFor(count: number, reserved: number): boolean {
    return this.#tail - this.#head + count <= this.#entries - reserved;
  }

  nextSqeKeeping(reserved: number): number {
    if (!this.roomFor(1, reserved)) return -1;
    return (this.#tail++ % this.#entries) * SQE_WORDS;
  }

  submit(): number {
    return 0;
  }

  submitAndWait(): number {
    for (; this.#head < this.#tail; this.#head++) {
      const at = (this.#head % this.#entries) * SQE_WORDS;
      const isCommand = (this.sqes[at]! & 0xff) === IORING_OP_URING_CMD;
      this.#complete(at, isCommand ? this.#request(this.sqes[at + 12]! >>> 16) : this.#length(at));
    }
    return 0;
  }

  /** READ and WRITE have done what was asked for; so has FSYNC, whose length is 0. */
  #length(at: number): number {
    return this.sqes[at + 6]!;
  }

  /** Puts the next request into the tag's iod. */
  #request(tag: number): number {
    if (this.#requests === 0) return ABORT;
    this.#requests--;
    const iod = tag * IOD_WORDS;
    this.iods[iod] = this.#requests % OPS;
    this.iods[iod + 1] = SECTORS;
    this.iods[iod + 2] = (this.#requests & 0xffff) * SECTORS;
    this.iods[iod + 3] = 0;
    return 0;
  }

  #complete(at: number, result: number): void {
    const cqe = this.#cqTail++ % this.#entries;
    this.#slots[cqe] = this.sqes[at + 8]!;
    this.#metas[cqe] = this.sqes[at + 9]!;
    this.#results[cqe] = result;
  }

  cqReady(): number {
    return this.#cqTail - this.#cqHead;
  }

  cqSlot(): number {
    return this.#slots[this.#cqHead % this.#entries]!;
  }

  cqMeta(): number {
    return this.#metas[this.#cqHead % this.#entries]!;
  }

  cqRes(): number {
    return this.#results[this.#cqHead % this.#entries]!;
  }

  cqFlags(): number {
    return 0;
  }

  cqAdvance(): void {
    this.#cqHead++;
  }
}
