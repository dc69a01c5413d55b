// hot
/**
 * What one server thread counts, in memory that others may look at while it does.
 *
 * A cell is two words, the low 30 bits of a number and what is above them: whole numbers cost the
 * hot path less than float64 (src/README.md), and 31 bits would do for a few hours. A cell is
 * written by one thread only. Who writes is `queue/tally.ts`, who reads is `control/stats.ts`.
 */

/** Cell of a thread's area: requests that it has in its hands while it sleeps. */
export const CELL_BUSY = 0;
/** Where the cells of the operations begin; one block for each of `COUNTED_OPS`. */
export const CELL_OPS = 8;

/** In a block: bytes done, requests that failed, microseconds of all requests together. */
export const COUNT_BYTES = 0;
export const COUNT_ERRORS = 1;
export const COUNT_TIME_US = 2;
/** The histogram: requests of less than 1, 2, 4, 8, … microseconds; the last has the rest. */
export const COUNT_BUCKETS = 4;
export const BUCKETS = 28;
export const OP_CELLS = COUNT_BUCKETS + BUCKETS;

/** By the driver's number of the operation; it does not send number 4. */
export const COUNTED_OPS = ["read", "write", "flush", "discard", "other", "write_zeroes"] as const;
export const COUNTED_OTHER = 4;

export const CELL_WORDS = 2;
const CELLS = CELL_OPS + COUNTED_OPS.length * OP_CELLS;
/** Of a thread's cells, in words and in bytes. Two threads' areas never share a cache line. */
export const THREAD_AREA = Math.ceil((CELLS * CELL_WORDS * 4) / 64) * 64;
export const THREAD_WORDS = THREAD_AREA / 4;

const RADIX = 2 ** 30;

/** Adds `count`, a whole number of at least 0. */
export function addTo(words: Int32Array, cell: number, count: number): void {
  const at = cell * CELL_WORDS;
  const low = words[at]! + count;
  if (low < RADIX) {
    words[at] = low;
    return;
  }
  words[at + 1]! += Math.floor(low / RADIX); // first: a reader notices (control/stats.ts)
  words[at] = low % RADIX;
}

export function valueOf(words: Int32Array, cell: number): number {
  return words[cell * CELL_WORDS + 1]! * RADIX + words[cell * CELL_WORDS]!;
}
