// hot
/**
 * Counts what a server thread does, for `ublk stat`. A request costs a few stores and the clock is
 * read once a turn, so a request that ends in the turn in which it came took "less than 1 us".
 */

import {
  BUCKETS,
  CELL_BUSY,
  CELL_OPS,
  COUNT_BUCKETS,
  COUNT_BYTES,
  COUNT_ERRORS,
  COUNT_TIME_US,
  COUNTED_OPS,
  COUNTED_OTHER,
  OP_CELLS,
  THREAD_CELLS,
} from "../target/counters.ts";

const OPS = COUNTED_OPS.length;
const NS_PER_US = 1000;
/** From here on, a minute, everything is in the last bucket. */
const LONGEST_US = 2 ** (BUCKETS - 2);

export class Tally {
  readonly #cells: Float64Array;
  /** When the request of a slot arrived, in microseconds. */
  readonly #since: Float64Array;
  #now = 0;

  /** `cells`: `THREAD_CELLS` of them; memory of its own where nobody looks. */
  constructor(slots: number, cells: Float64Array = new Float64Array(THREAD_CELLS)) {
    this.#cells = cells;
    this.#since = new Float64Array(slots);
  }

  /** A turn is over; `busy` requests are in our hands while we sleep. */
  rest(busy: number): void {
    this.#cells[CELL_BUSY] = busy;
  }

  /** The next turn begins. */
  wake(): void {
    this.#now = Bun.nanoseconds() / NS_PER_US;
  }

  arrived(slot: number): void {
    this.#since[slot] = this.#now;
  }

  /** `result`: bytes done, or -errno. */
  done(slot: number, op: number, length: number, result: number): void {
    const cells = this.#cells;
    const us = this.#now - this.#since[slot]!;
    const block = CELL_OPS + (op < OPS ? op : COUNTED_OTHER) * OP_CELLS;
    if (result >= 0) cells[block + COUNT_BYTES]! += length;
    else cells[block + COUNT_ERRORS]! += 1;
    cells[block + COUNT_TIME_US]! += us;
    cells[block + COUNT_BUCKETS + bucketOf(us)]! += 1;
  }
}

/** 0 for less than 1, 1 for less than 2, 2 for less than 4, … */
export function bucketOf(us: number): number {
  return us < LONGEST_US ? 32 - Math.clz32(us) : BUCKETS - 1;
}
