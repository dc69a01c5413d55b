/** src/queue/tally.ts: what is counted, and when a request is said to have begun. */

import { expect, test } from "bun:test";
import { bucketOf, Tally } from "../../../src/queue/tally.ts";
import * as counters from "../../../src/target/counters.ts";

const { CELL_BUSY, CELL_OPS, COUNT_BUCKETS, COUNTED_OPS, OP_CELLS, THREAD_CELLS } = counters;

function block(cells: Float64Array, op: (typeof COUNTED_OPS)[number]) {
  const at = CELL_OPS + COUNTED_OPS.indexOf(op) * OP_CELLS;
  const histogram = cells.subarray(at + COUNT_BUCKETS, at + OP_CELLS);
  return {
    bytes: cells[at + counters.COUNT_BYTES],
    errors: cells[at + counters.COUNT_ERRORS],
    us: cells[at + counters.COUNT_TIME_US],
    ios: histogram.reduce((sum, one) => sum + one, 0),
    histogram,
  };
}

test.each([
  [0, 0],
  [0.9, 0],
  [1, 1],
  [1.99, 1],
  [2, 2],
  [1000, 10],
  [1024, 11],
  [2 ** 26, 27],
  [2 ** 31, 27],
  [2 ** 40, 27],
])("%d us are in bucket %d", (us, bucket) => {
  expect(bucketOf(us)).toBe(bucket);
});

test("requests are counted by operation, errors apart from bytes", () => {
  const cells = new Float64Array(THREAD_CELLS);
  const tally = new Tally(4, cells);
  const requests = [
    [0, 0, 4096, 4096], // READ
    [1, 1, 8192, -5], // WRITE
    [2, 2, 0, 0], // FLUSH
    [3, 3, 1 << 30, 0], // DISCARD
    [0, 5, 512, 0], // WRITE_ZEROES
    [1, 13, 512, 0], // of a zone
    [2, 0, 512, 512],
  ] as const;
  tally.wake();
  for (const [slot, op, length, result] of requests) {
    tally.arrived(slot);
    tally.done(slot, op, length, result);
  }
  expect(block(cells, "read")).toMatchObject({ ios: 2, bytes: 4608, errors: 0 });
  expect(block(cells, "write")).toMatchObject({ ios: 1, bytes: 0, errors: 1 });
  expect(block(cells, "flush")).toMatchObject({ ios: 1, bytes: 0, errors: 0 });
  expect(block(cells, "discard")).toMatchObject({ ios: 1, bytes: 1 << 30 });
  expect(block(cells, "write_zeroes")).toMatchObject({ ios: 1, bytes: 512 });
  expect(block(cells, "other")).toMatchObject({ ios: 1, bytes: 512 });
});

test("a request lasts from the turn in which it came to the turn in which it went", async () => {
  const cells = new Float64Array(THREAD_CELLS);
  const tally = new Tally(2, cells);
  tally.wake();
  tally.arrived(1);
  tally.rest(1);
  expect(cells[CELL_BUSY]).toBe(1);
  await Bun.sleep(20);
  tally.wake();
  tally.arrived(0);
  tally.done(0, 0, 512, 512); // came and went in one turn
  tally.done(1, 0, 512, 512);
  tally.rest(0);
  const { us, histogram } = block(cells, "read");
  expect(us).toBeWithin(19_000, 10_000_000);
  expect(histogram[0]).toBe(1);
  expect(histogram.subarray(15).reduce((sum, one) => sum + one, 0)).toBe(1);
  expect(cells[CELL_BUSY]).toBe(0);
});
