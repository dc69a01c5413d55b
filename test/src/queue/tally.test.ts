/** src/queue/tally.ts: what is counted, and when a request is said to have begun. */

import { expect, test } from "bun:test";
import { bucketOf, Tally } from "../../../src/queue/tally.ts";
import * as counters from "../../../src/target/counters.ts";

const { BUCKETS, CELL_BUSY, CELL_OPS, COUNTED_OPS, OP_CELLS, THREAD_WORDS } = counters;

function block(words: Int32Array, op: (typeof COUNTED_OPS)[number]) {
  const value = (cell: number): number =>
    counters.valueOf(words, CELL_OPS + COUNTED_OPS.indexOf(op) * OP_CELLS + cell);
  const histogram = Array.from({ length: BUCKETS }, (_, bucket) =>
    value(counters.COUNT_BUCKETS + bucket),
  );
  return {
    bytes: value(counters.COUNT_BYTES),
    errors: value(counters.COUNT_ERRORS),
    us: value(counters.COUNT_TIME_US),
    ios: histogram.reduce((sum, one) => sum + one, 0),
    histogram,
  };
}

test.each([
  [0, 0],
  [1, 1],
  [2, 2],
  [1000, 10],
  [1024, 11],
  [2 ** 26, 27],
  [2 ** 31 - 1, 27],
])("%d us are in bucket %d", (us, bucket) => {
  expect(bucketOf(us)).toBe(bucket);
});

test("requests are counted by operation, errors apart from bytes", () => {
  const words = new Int32Array(THREAD_WORDS);
  const tally = new Tally(4, words);
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
  expect(block(words, "read")).toMatchObject({ ios: 2, bytes: 4608, errors: 0 });
  expect(block(words, "write")).toMatchObject({ ios: 1, bytes: 0, errors: 1 });
  expect(block(words, "flush")).toMatchObject({ ios: 1, bytes: 0, errors: 0 });
  expect(block(words, "discard")).toMatchObject({ ios: 1, bytes: 1 << 30 });
  expect(block(words, "write_zeroes")).toMatchObject({ ios: 1, bytes: 512 });
  expect(block(words, "other")).toMatchObject({ ios: 1, bytes: 512 });
});

test("a request lasts from the turn in which it came to the turn in which it went", async () => {
  const words = new Int32Array(THREAD_WORDS);
  const tally = new Tally(2, words);
  tally.wake();
  tally.arrived(1);
  tally.rest(1);
  expect(counters.valueOf(words, CELL_BUSY)).toBe(1);
  await Bun.sleep(20);
  tally.wake();
  tally.arrived(0);
  tally.done(0, 0, 512, 512); // came and went in one turn
  tally.done(1, 0, 512, 512);
  tally.rest(0);
  const { us, histogram } = block(words, "read");
  expect(us).toBeWithin(19_000, 10_000_000);
  expect(histogram[0]).toBe(1);
  expect(histogram.slice(15).reduce((sum, one) => sum + one, 0)).toBe(1);
  expect(counters.valueOf(words, CELL_BUSY)).toBe(0);
});

test("the clock that stands still while nothing is kept goes on when something is", async () => {
  const words = new Int32Array(THREAD_WORDS);
  const tally = new Tally(1, words);
  let kept = 0;
  for (let round = 0; round < 3; round++) {
    tally.rest(0);
    await Bun.sleep(30); // nobody waits for this
    const begin = performance.now();
    tally.wake();
    tally.arrived(0);
    tally.rest(1);
    await Bun.sleep(10);
    tally.wake();
    tally.done(0, 0, 512, 512);
    kept += performance.now() - begin;
  }
  expect(block(words, "read").us).toBeWithin(30_000, kept * 1000 + 10);
});
