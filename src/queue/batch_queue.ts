// hot
/** One queue's memory for batch commands: tags that arrive, results that gather. */

import { wordsAt } from "../../ffi/arena.ts";
import { highHalf, lowHalf } from "../../ffi/io_uring.ts";
import { ELEM_SIZE, ELEM_SIZE_WITH_ADDR } from "../../ffi/ublk_cmd.ts";
import type { QueueIo } from "./io.ts";

export const FETCH_BUFFERS = 4;
const FETCH_BYTES = 4096;
const TAG_BYTES = 2;

/** struct io_uring_buf: addr, len, bid; the ring's tail lies over the first one's last member. */
const BUF_BYTES = 16;
const BUF_WORDS = 4;
const BUF_TAIL = 7;

/** Two buffers of results: one gathers while the kernel has the other. */
const HALVES = 2;

export class BatchQueue {
  readonly queueId: number;
  /** The ring of fetch buffers, for registration. */
  readonly ringAddress: number;
  readonly elemSize: number;
  /** Slots of the thread by tag. */
  readonly slots: Int32Array;
  /** FETCH_IO_CMDS has ended, or has not begun. */
  mustFetch = true;
  /** Results in the half that gathers. */
  gathered = 0;
  /** The kernel has the other half; in bytes, what it still has to take. */
  sending = false;
  sendFrom = 0;
  sendTo = 0;
  /** And will not say so when it has taken it. */
  silent = false;
  /** It has to be given what it has not taken, of a half or of a rest. */
  mustSend = false;
  readonly #fetchAddress: number;
  readonly #tags: Uint16Array;
  readonly #ring: Int32Array;
  readonly #ringTail: Uint16Array;
  #tail = 0;
  readonly #filled = new Int32Array(FETCH_BUFFERS);
  readonly #finished = new Int32Array(FETCH_BUFFERS);
  readonly #elemsAddress: number;
  readonly #elems: Int32Array;
  readonly #half: number;
  #gathering = 0;
  #arrivedAt = 0;

  /**
   * `allocate`: page-aligned memory of the thread; answers its address.
   *
   * The fetch buffers are remote. When a server dies that has requests waiting, Linux 7.2 copies
   * their tags from a thread of its own, with the memory of just any process in place
   * (ublk_batch_tw_cb in ublk_drv.c does not look at `tw.cancel`): nobody must have that address.
   */
  constructor(
    queueId: number,
    depth: number,
    hasAddress: boolean,
    allocate: (length: number, place?: "remote") => number,
  ) {
    this.queueId = queueId;
    this.elemSize = hasAddress ? ELEM_SIZE_WITH_ADDR : ELEM_SIZE;
    this.slots = new Int32Array(depth);
    this.#fetchAddress = allocate(FETCH_BUFFERS * FETCH_BYTES, "remote");
    const fetch = wordsAt(this.#fetchAddress, FETCH_BUFFERS * FETCH_BYTES);
    this.#tags = new Uint16Array(fetch.buffer, fetch.byteOffset);
    this.ringAddress = allocate(FETCH_BUFFERS * BUF_BYTES);
    this.#ring = wordsAt(this.ringAddress, FETCH_BUFFERS * BUF_BYTES);
    this.#ringTail = new Uint16Array(this.#ring.buffer, this.#ring.byteOffset);
    this.#half = depth * this.elemSize;
    this.#elemsAddress = allocate(HALVES * this.#half);
    this.#elems = wordsAt(this.#elemsAddress, HALVES * this.#half);
    this.#finished.fill(1);
  }

  /** The driver has put `bytes` of tags into `buffer`; answers how many tags those are. */
  tagsArrived(buffer: number, bytes: number, bufferGoesOn: boolean): number {
    this.#arrivedAt = (buffer * FETCH_BYTES + this.#filled[buffer]!) / TAG_BYTES;
    this.#filled[buffer]! += bytes;
    if (!bufferGoesOn) this.#finished[buffer] = 1;
    return bytes / TAG_BYTES;
  }

  /** The slot of the tag at `index` of those that arrived last. */
  arrived(index: number): number {
    return this.slots[this.#tags[this.#arrivedAt + index]!]!;
  }

  /** Gives buffers that were read back to the driver. */
  returnBuffers(): void {
    for (let buffer = 0; buffer < FETCH_BUFFERS; buffer++) {
      if (this.#finished[buffer] === 0) continue;
      this.#finished[buffer] = 0;
      this.#filled[buffer] = 0;
      const at = (this.#tail % FETCH_BUFFERS) * BUF_WORDS;
      const address = this.#fetchAddress + buffer * FETCH_BYTES;
      this.#ring[at] = lowHalf(address);
      this.#ring[at + 1] = highHalf(address);
      this.#ring[at + 2] = FETCH_BYTES;
      // The upper half of this word is reserved, and in the first entry it is the ring's tail.
      this.#ringTail[at * 2 + 6] = buffer;
      this.#tail++;
    }
    Atomics.store(this.#ringTail, BUF_TAIL, this.#tail & 0xffff);
  }

  gather(io: QueueIo, result: number): void {
    const elems = this.#elems;
    const at = (this.#gathering * this.#half + this.gathered * this.elemSize) / 4;
    elems[at] = io.tag | (io.slot << 16);
    elems[at + 1] = result;
    if (this.elemSize === ELEM_SIZE_WITH_ADDR) {
      elems[at + 2] = lowHalf(io.commandAddress);
      elems[at + 3] = highHalf(io.commandAddress);
    }
    this.gathered++;
  }

  /** The gathered half becomes the kernel's, the other one gathers. */
  swap(): void {
    this.sendFrom = this.#gathering * this.#half;
    this.sendTo = this.sendFrom + this.gathered * this.elemSize;
    this.sending = true;
    this.mustSend = true;
    this.gathered = 0;
    this.#gathering = 1 - this.#gathering;
  }

  /** What was sent without a completion is in the kernel's hands. */
  taken(): void {
    this.silent = false;
    this.sending = false;
  }

  get sendAddress(): number {
    return this.#elemsAddress + this.sendFrom;
  }
}
