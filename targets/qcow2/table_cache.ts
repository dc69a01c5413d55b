// hot
/**
 * Slices of tables (L2 tables, refcount blocks) in a bounded piece of memory, of all files.
 *
 * A slice is a cluster or 4 KiB, whichever is less. Its memory may go to the disk at any time:
 * whoever changes a table does so only when the change may be durable.
 */

import { type Io, WaitList } from "../../src/target/target.ts";

export const SLICE = 4096;
export const MISS = -1;

/** State bits of a slot. */
export const LOADING = 1;
/** Its bytes are on their way to the file: they must not change. */
export const WRITING = 2;
/** It differs from the file. */
export const DIRTY = 4;
/** It has entries that cannot be right: each has to be looked at before it is used. */
export const SUSPECT = 8;
const REFERENCED = 16;
/** It could not be written. Nobody tries again: what the file has is not known. */
export const FAILED = 32;

const HASH = 0x9e3779b1;
const FREE_KEY = -1;
/** Registered files of a thread. */
export const FILES_MAX = 64;
const KEYS_PER_BYTE = FILES_MAX / 512;

/** Exact for offsets below 2^56: 47 bits of sectors and 6 of file. */
export function keyOf(file: number, offset: number): number {
  return offset * KEYS_PER_BYTE + file;
}

export class TableCache {
  /** Every slice, `SLICE` bytes apart. */
  readonly view: DataView;
  readonly address: number;
  readonly slots: number;
  readonly state: Uint8Array;
  readonly pins: Int32Array;
  /** Woken when something about a slot has changed: loaded, written, let go. */
  readonly changed: WaitList;
  /** Told when pages of the image have come into the page cache and are of no more use there. */
  onPages: (() => void) | undefined;
  readonly #keys: Float64Array;
  readonly #next: Int32Array;
  readonly #buckets: Int32Array;
  readonly #shift: number;
  #hand = 0;

  /** `memory`: of `view.byteLength` bytes at `address`. */
  constructor(address: number, view: DataView, runnable: Io[]) {
    this.address = address;
    this.view = view;
    this.slots = Math.floor(view.byteLength / SLICE);
    this.state = new Uint8Array(this.slots);
    this.pins = new Int32Array(this.slots);
    this.changed = new WaitList(runnable);
    this.#keys = new Float64Array(this.slots).fill(FREE_KEY);
    this.#next = new Int32Array(this.slots).fill(MISS);
    const bits = Math.ceil(Math.log2(this.slots)) + 1;
    this.#buckets = new Int32Array(1 << bits).fill(MISS);
    this.#shift = 32 - bits;
  }

  /** The slot of a slice that is there and loaded, or MISS. */
  find(key: number): number {
    const slot = this.lookUp(key);
    if (slot === MISS || (this.state[slot]! & LOADING) !== 0) return MISS;
    this.state[slot]! |= REFERENCED;
    return slot;
  }

  /** As `find`, and also those that are being loaded. */
  lookUp(key: number): number {
    let slot = this.#buckets[this.#bucketOf(key)]!;
    while (slot !== MISS && this.#keys[slot] !== key) slot = this.#next[slot]!;
    return slot;
  }

  /** Takes a slot for `key`, away from a slice that is idle; MISS when all are in use. */
  take(key: number): number {
    const slot = this.#victim();
    if (slot === MISS) return MISS;
    this.forget(slot);
    this.#keys[slot] = key;
    const bucket = this.#bucketOf(key);
    this.#next[slot] = this.#buckets[bucket]!;
    this.#buckets[bucket] = slot;
    this.state[slot] = 0;
    return slot;
  }

  forget(slot: number): void {
    const key = this.#keys[slot]!;
    if (key === FREE_KEY) return;
    const bucket = this.#bucketOf(key);
    let at = this.#buckets[bucket]!;
    if (at === slot) {
      this.#buckets[bucket] = this.#next[slot]!;
    } else {
      while (this.#next[at] !== slot) at = this.#next[at]!;
      this.#next[at] = this.#next[slot]!;
    }
    this.#keys[slot] = FREE_KEY;
    this.state[slot] = 0;
  }

  /** The clock: whoever was used since the hand came by last stays for another round. */
  #victim(): number {
    for (let tries = 2 * this.slots; tries > 0; tries--) {
      const slot = this.#hand;
      this.#hand = slot + 1 === this.slots ? 0 : slot + 1;
      const state = this.state[slot]!;
      if (this.pins[slot]! > 0 || (state & (LOADING | WRITING | DIRTY)) !== 0) continue;
      if ((state & REFERENCED) === 0) return slot;
      this.state[slot] = state & ~REFERENCED;
    }
    return MISS;
  }

  #bucketOf(key: number): number {
    const low = key >>> 0;
    return Math.imul(low ^ (low >>> 15) ^ (key / 2 ** 32), HASH) >>> this.#shift;
  }
}
