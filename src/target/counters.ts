/**
 * What one server thread counts, in memory that others may look at while it does.
 *
 * Cells are float64, each written by its own thread only, and only ever as a whole: whoever reads
 * sees a number that was true a moment ago. Who writes is `queue/tally.ts`, who reads is
 * `control/stats.ts`.
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

export const THREAD_CELLS = CELL_OPS + COUNTED_OPS.length * OP_CELLS;
const CELL_BYTES = 8;
/** Two threads' areas never share a cache line. */
export const THREAD_AREA = Math.ceil((THREAD_CELLS * CELL_BYTES) / 64) * 64;
