// hot
/**
 * Counts what a server thread does, for `ublk stat`. A request costs a few stores. The clock is
 * read once a turn, and not at all while every request ends in the turn in which it came: such a
 * request took "less than 1 us".
 */

import { lowHalf } from "../../ffi/io_uring.ts";
import {
  addTo,
  BUCKETS,
  CELL_BUSY,
  CELL_OPS,
  CELL_WORDS,
  COUNT_BUCKETS,
  COUNT_BYTES,
  COUNT_ERRORS,
  COUNT_TIME_US,
  COUNTED_OPS,
  COUNTED_OTHER,
  OP_CELLS,
  THREAD_WORDS,
} from "../target/counters.ts";

const OPS = COUNTED_OPS.length;
const NS_PER_US = 1000;
/** From here on, a minute, everything is in the last bucket. */
const LONGEST_US = 2 ** (BUCKETS - 2);

export class Tally {
  readonly #words: Int32Array;
  /** When the request of a slot arrived, in microseconds of a clock that stands still at times. */
  readonly #since: Int32Array;
  #now = 0;
  /** By how much that clock is behind. */
  #lag = 0;
  /** Requests that were in our hands when the turn began. */
  #kept = 0;

  /** `words`: `THREAD_WORDS` of them; memory of its own where nobody looks. */
  constructor(slots: number, words: Int32Array = new Int32Array(THREAD_WORDS)) {
    this.#words = words;
    this.#since = new Int32Array(slots);
  }

  /**
   * A turn is over; `busy` requests are in our hands while we sleep. If there were none before,
   * all of them came in this turn, and the clock goes on from there.
   */
  rest(busy: number): void {
    this.#words[CELL_BUSY * CELL_WORDS] = busy;
    if (busy > 0 && this.#kept === 0) this.#lag = (microseconds() - this.#now) | 0;
    this.#kept = busy;
  }

  /** The next turn begins. */
  wake(): void {
    if (this.#kept > 0) this.#now = (microseconds() - this.#lag) | 0;
  }

  arrived(slot: number): void {
    this.#since[slot] = this.#now;
  }

  /** `result`: bytes done, or -errno. */
  done(slot: number, op: number, length: number, result: number): void {
    const words = this.#words;
    const us = (this.#now - this.#since[slot]!) & INT_MAX;
    const block = CELL_OPS + (op < OPS ? op : COUNTED_OTHER) * OP_CELLS;
    if (result >= 0) addTo(words, block + COUNT_BYTES, length);
    else addTo(words, block + COUNT_ERRORS, 1);
    if (us > 0) addTo(words, block + COUNT_TIME_US, us);
    addTo(words, block + COUNT_BUCKETS + bucketOf(us), 1);
  }
}

/** Wraps around after 71 minutes, of which half are told apart: no request lasts so long. */
const INT_MAX = 0x7fffffff;

function microseconds(): number {
  return lowHalf(Bun.nanoseconds() / NS_PER_US);
}

/** 0 for less than 1, 1 for less than 2, 2 for less than 4, … */
export function bucketOf(us: number): number {
  return us < LONGEST_US ? 32 - Math.clz32(us) : BUCKETS - 1;
}
