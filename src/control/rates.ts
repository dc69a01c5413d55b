/** Two looks at the same counters: what happened in between. */

import type { OpStats, Stats } from "./stats.ts";

/** Of one operation, or of several together. */
export interface Rates {
  ios: number;
  bytes: number;
  errors: number;
  iops: number;
  bytes_per_second: number;
  /** Microseconds; 0 when nothing happened. */
  latency_mean_us: number;
  /** Half, and 99 of 100, took less: the upper end of a bucket of the histogram. */
  latency_p50_us: number;
  latency_p99_us: number;
  /** Requests that took less than 1, 2, 4, 8, … microseconds; the last has the rest. */
  histogram: number[];
}

export interface Interval {
  seconds: number;
  /** Requests that are not done, now and on average (Little's law). */
  in_flight: number;
  queue_depth: number;
  ops: Record<string, Rates>;
  total: Rates;
}

/** `before`: an earlier look; nothing, or one at a daemon that has gone, for all since it began. */
export function interval(now: Stats, before: Stats | undefined, seconds: number): Interval {
  const same = before?.ublksrv_pid === now.ublksrv_pid && before.since_ms === now.since_ms;
  const steps = Object.entries(now.ops).map(([name, op]): [string, OpStats] => [
    name,
    same ? difference(op, before.ops[name as keyof Stats["ops"]]) : op,
  ]);
  const total = steps.map(([, step]) => step).reduce(together);
  return {
    seconds,
    in_flight: now.in_flight,
    queue_depth: total.time_us / 1e6 / seconds,
    ops: Object.fromEntries(steps.map(([name, step]) => [name, ratesOf(step, seconds)])),
    total: ratesOf(total, seconds),
  };
}

const difference = (now: OpStats, before: OpStats): OpStats =>
  combine(now, before, (one, other) => one - other);

const together = (one: OpStats, other: OpStats): OpStats => combine(one, other, (a, b) => a + b);

function combine(one: OpStats, other: OpStats, by: (a: number, b: number) => number): OpStats {
  return {
    ios: by(one.ios, other.ios),
    bytes: by(one.bytes, other.bytes),
    errors: by(one.errors, other.errors),
    time_us: by(one.time_us, other.time_us),
    histogram: one.histogram.map((count, at) => by(count, other.histogram[at]!)),
  };
}

function ratesOf(step: OpStats, seconds: number): Rates {
  const { ios, bytes, errors, time_us, histogram } = step;
  return {
    ...{ ios, bytes, errors },
    iops: ios / seconds,
    bytes_per_second: bytes / seconds,
    latency_mean_us: ios === 0 ? 0 : time_us / ios,
    latency_p50_us: percentile(histogram, 0.5),
    latency_p99_us: percentile(histogram, 0.99),
    histogram,
  };
}

/** The end of the bucket in which that part of the requests is reached. */
export function percentile(histogram: readonly number[], part: number): number {
  const all = histogram.reduce((sum, count) => sum + count, 0);
  let seen = 0;
  for (const [bucket, count] of histogram.entries()) {
    seen += count;
    if (count > 0 && seen >= all * part) return 2 ** bucket;
  }
  return 0;
}
