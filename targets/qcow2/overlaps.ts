// hot
/**
 * WRITEs in flight to one page, of which one moves the page directly and the other a part of it.
 *
 * The part goes into the page cache. When a direct write ends meanwhile, the kernel cannot take the
 * page out of there and gives the file an IO error (dio_warn_stale_pagecache), which the next
 * fdatasync would report as one of the disk's. So whoever comes later waits for the other to end.
 */

import { PAGE_SIZE } from "../../src/target/memory.ts";
import {
  type Coroutine,
  type Io,
  OP_WRITE,
  OP_WRITE_ZEROES,
  WaitList,
} from "../../src/target/target.ts";

const PAGES_PER_BYTE = 1 / PAGE_SIZE;
const NONE = -1;

export class Overlaps {
  /** By slot: what a WRITE in flight touches, in bytes, whole pages; `#ends` is NONE for none. */
  readonly #begins: number[] = [];
  readonly #ends: number[] = [];
  readonly #inPart: boolean[] = [];
  /** Requests count up as they arrive. */
  readonly #serials: number[] = [];
  #serial = 0;
  /** In flight, of those that move a page in part: mostly none. */
  #parts = 0;
  readonly #ended: WaitList;
  #waiting = 0;

  constructor(runnable: Io[]) {
    this.#ended = new WaitList(runnable);
  }

  /** Whether the request has to `wait` before anything is done for it. */
  arrived(io: Io): boolean {
    const { slot, op, offset, length } = io;
    this.#ends[slot] = NONE;
    if (op !== OP_WRITE && op !== OP_WRITE_ZEROES) return false;
    const begin = Math.floor(offset * PAGES_PER_BYTE) * PAGE_SIZE;
    const end = Math.ceil((offset + length) * PAGES_PER_BYTE) * PAGE_SIZE;
    // Zeros that are written as bytes all go through the page cache.
    const inPart = op === OP_WRITE_ZEROES || end - begin !== length;
    this.#begins[slot] = begin;
    this.#ends[slot] = end;
    this.#inPart[slot] = inPart;
    this.#serials[slot] = ++this.#serial;
    if (inPart) this.#parts++;
    return this.#parts > 0 && this.#meets(slot);
  }

  /** An earlier one of the other kind is in flight. */
  #meets(slot: number): boolean {
    const begin = this.#begins[slot]!;
    const end = this.#ends[slot]!;
    for (let other = 0; other < this.#ends.length; other++) {
      const otherEnd = this.#ends[other] ?? NONE;
      if (otherEnd <= begin || this.#begins[other]! >= end) continue;
      if (this.#inPart[other] === this.#inPart[slot]) continue;
      if (this.#serials[other]! < this.#serials[slot]!) return true;
    }
    return false;
  }

  /** Returns at once where it need not wait. */
  *wait(io: Io): Coroutine {
    if ((this.#ends[io.slot] ?? NONE) === NONE) return 0;
    this.#waiting++;
    while (this.#meets(io.slot)) yield this.#ended;
    this.#waiting--;
    return 0;
  }

  done(io: Io): void {
    const { slot } = io;
    if ((this.#ends[slot] ?? NONE) === NONE) return;
    this.#ends[slot] = NONE;
    if (this.#inPart[slot]) this.#parts--;
    if (this.#waiting > 0) this.#ended.wakeAll();
  }
}
