/** `ublk stat`: what devices do, by the counters of their threads. */

import { defineCommand } from "citty";
import { deviceIds } from "../control/device.ts";
import { interval, type Interval } from "../control/rates.ts";
import { needStats, readStats, type Stats } from "../control/stats.ts";
import { readState } from "../control/state.ts";
import { parseCount, UsageError } from "../target/parse.ts";
import type { OptionValues } from "../target/target.ts";
import { writeMetrics } from "./metrics.ts";
import { cittyArgs, ID_OPTION, JSON_OPTION, type OptionTable } from "./options.ts";
import { parseId, parseOptions } from "./options.ts";
import { print } from "./print.ts";
import { histograms, statText } from "./stat_text.ts";

const OPTIONS: OptionTable = {
  number: ID_OPTION,
  interval: {
    type: "string",
    alias: "i",
    valueHint: "SECONDS",
    description: "look again every so often, until ^C; without, everything since the start",
  },
  count: { type: "string", alias: "c", valueHint: "N", description: "with -i: end after so many" },
  histogram: { type: "boolean", description: "latency histograms, operation by operation" },
  metrics: {
    type: "string",
    valueHint: "FILE",
    description: "write FILE for Prometheus, whole at any time; - for standard output",
  },
  json: JSON_OPTION,
};

const COUNT_MAX = 1_000_000_000;

/** A device that is counted. */
export interface Counted {
  dev_id: number;
  block_device: string;
  target: string;
  stats: Stats;
}

export type Report = Omit<Counted, "stats"> & Interval;

export const statCommand = defineCommand({
  meta: { name: "stat", description: "show IO rates, queue depth and latency of devices" },
  args: cittyArgs(OPTIONS),
  async run({ rawArgs }) {
    const values = parseOptions(rawArgs, OPTIONS);
    const id = values["number"] === undefined ? undefined : parseId(String(values["number"]));
    const seconds = parseInterval(values["interval"]);
    const count = parseTurns(values["count"], seconds);
    const metrics = values["metrics"] as string | undefined;
    if (metrics !== undefined && (values["json"] === true || values["histogram"] === true)) {
      throw new UsageError("--metrics has a format of its own: leave out --json and --histogram");
    }
    let before = seconds === undefined || metrics !== undefined ? [] : look(id);
    let begin = performance.now();
    for (let turn = 0; turn < count; turn++) {
      if (seconds !== undefined && (turn > 0 || metrics === undefined)) {
        await Bun.sleep(seconds * 1000);
      }
      const now = look(id);
      if (metrics !== undefined) writeMetrics(now, metrics);
      else {
        const passed = seconds === undefined ? undefined : (performance.now() - begin) / 1000;
        const reports = reportsOf(now, before, passed);
        print(values["json"] === true ? `${JSON.stringify(reports)}\n` : text(reports));
      }
      before = now;
      begin = performance.now();
    }

    function text(reports: Report[]): string {
      return values["histogram"] === true ? histograms(reports) : statText(reports);
    }
  },
});

/** All counted devices, or one that has to be. */
export function look(id: number | undefined): Counted[] {
  const counted = (one: number, stats: Stats): Counted => {
    const target = readState(one)?.target.name ?? "?";
    return { dev_id: one, block_device: `/dev/ublkb${one}`, target, stats };
  };
  if (id !== undefined) return [counted(id, needStats(id))];
  return deviceIds().flatMap((one) => {
    const stats = readStats(one);
    return stats === undefined ? [] : [counted(one, stats)]; // another server's
  });
}

/** `seconds` between the two looks; undefined for all since each daemon began. */
export function reportsOf(
  now: readonly Counted[],
  before: readonly Counted[],
  seconds: number | undefined,
): Report[] {
  return now.map(({ stats, ...device }) => {
    const earlier = before.find((one) => one.dev_id === device.dev_id)?.stats;
    const since = (Date.now() - stats.since_ms) / 1000;
    const passed = seconds ?? Math.max(since, 0.001);
    return { ...device, ...interval(stats, earlier, passed) };
  });
}

/** Seconds between two looks. */
export function parseInterval(text: OptionValues[string]): number | undefined {
  if (text === undefined) return undefined;
  const seconds = /^\d+(?:\.\d+)?$/.test(String(text)) ? Number(text) : Number.NaN;
  if (seconds >= 0.1 && seconds <= 3600) return seconds;
  throw new UsageError(`--interval '${text}': give seconds, from 0.1 to 3600`);
}

function parseTurns(text: OptionValues[string], seconds: number | undefined): number {
  if (text === undefined) return seconds === undefined ? 1 : Infinity;
  const count = parseCount("--count", String(text), 1, COUNT_MAX);
  if (seconds === undefined) throw new UsageError("--count needs --interval: how often to look");
  return count;
}
