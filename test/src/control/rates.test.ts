/** src/control/rates.ts: two looks at counters, and what they say of the time in between. */

import { expect, test } from "bun:test";
import { interval, percentile } from "../../../src/control/rates.ts";
import type { OpStats, Stats } from "../../../src/control/stats.ts";
import { BUCKETS, COUNTED_OPS } from "../../../src/target/counters.ts";

const histogramOf = (counts: Record<number, number>): number[] =>
  Array.from({ length: BUCKETS }, (_, bucket) => counts[bucket] ?? 0);

const NOTHING: OpStats = { ios: 0, bytes: 0, errors: 0, time_us: 0, histogram: histogramOf({}) };

function statsOf(read: Partial<OpStats>, pid = 1): Stats {
  const ops = Object.fromEntries(COUNTED_OPS.map((op) => [op, NOTHING])) as Stats["ops"];
  ops.read = { ...NOTHING, ...read };
  return { since_ms: 1000, ublksrv_pid: pid, in_flight: 3, ops };
}

const EARLY = statsOf({ ios: 10, bytes: 40960, time_us: 1000, histogram: histogramOf({ 7: 10 }) });
const LATE = statsOf({
  ...{ ios: 110, bytes: 450560, errors: 2, time_us: 3_001_000 },
  histogram: histogramOf({ 7: 10, 14: 98, 20: 2 }),
});

test("rates are of the interval", () => {
  const { seconds, in_flight, queue_depth, ops, total } = interval(LATE, EARLY, 2);
  expect([seconds, in_flight, queue_depth]).toEqual([2, 3, 1.5]);
  expect(ops["read"]).toEqual({
    ...{ ios: 100, bytes: 409600, errors: 2, iops: 50, bytes_per_second: 204800 },
    ...{ latency_mean_us: 30000, latency_p50_us: 16384, latency_p99_us: 2 ** 20 },
    histogram: histogramOf({ 14: 98, 20: 2 }),
  });
  expect(total).toEqual(ops["read"]!);
  expect(ops["write"]).toMatchObject({ ios: 0, iops: 0, latency_mean_us: 0, latency_p99_us: 0 });
});

test("without an earlier look, or with one at another daemon, it is everything", () => {
  expect(interval(LATE, undefined, 2).total.ios).toBe(110);
  expect(interval(LATE, { ...EARLY, ublksrv_pid: 2 }, 2).total.ios).toBe(110);
  expect(interval(LATE, { ...EARLY, since_ms: 2000 }, 2).total.ios).toBe(110);
});

test.each([
  [{}, 0.5, 0],
  [{ 0: 1 }, 0.99, 1],
  [{ 3: 50, 10: 50 }, 0.5, 8],
  [{ 3: 50, 10: 50 }, 0.51, 1024],
  [{ 3: 99, 10: 1 }, 0.99, 8],
])("of %j the part %d is below %d us", (counts, part, limit) => {
  expect(percentile(histogramOf(counts), part)).toBe(limit);
});
