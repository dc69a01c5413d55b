/** src/cli/metrics.ts: Prometheus' text format, checked line by line. */

import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { metricsText, writeMetrics } from "../../../src/cli/metrics.ts";
import type { Counted } from "../../../src/cli/stat.ts";
import { makeCounters, readStats } from "../../../src/control/stats.ts";
import { wordsAt } from "../../../ffi/arena.ts";
import { Tally } from "../../../src/queue/tally.ts";
import { COUNTED_OPS, THREAD_AREA } from "../../../src/target/counters.ts";
import { tempFolder, thrown } from "../../temp.ts";

const folder = tempFolder();

function counted(id: number): Counted {
  const counters = makeCounters(id, 1, folder("state"));
  const tally = new Tally(1, wordsAt(counters.addresses[0]!, THREAD_AREA));
  tally.wake();
  for (const result of [4096, 4096, -5]) {
    tally.arrived(0);
    tally.done(0, 1, 4096, result);
  }
  counters.unmap();
  const stats = readStats(id, folder("state"))!;
  return { dev_id: id, block_device: `/dev/ublkb${id}`, target: "null", stats };
}

const text = metricsText([counted(0), counted(1)]);

test("each line is a comment or a sample, and each family is announced once", () => {
  const lines = text.trimEnd().split("\n");
  const names = lines.filter((line) => line.startsWith("# TYPE")).map((line) => line.split(" ")[2]);
  expect(new Set(names).size).toBe(names.length);
  for (const line of lines) {
    expect(line).toMatch(
      /^(# (HELP|TYPE) ublk_\w+ .+|ublk_\w+\{\w+="[^"]*"(,\w+="[^"]*")*\} [\d.e+-]+)$/,
    );
  }
  expect(text.endsWith("\n")).toBe(true);
});

test("samples say what was counted", () => {
  for (const device of ["ublkb0", "ublkb1"]) {
    const labels = `device="${device}",op="write"`;
    expect(text).toContain(`ublk_bytes_total{${labels}} 8192\n`);
    expect(text).toContain(`ublk_errors_total{${labels}} 1\n`);
    expect(text).toContain(`ublk_latency_seconds_count{${labels}} 3\n`);
    expect(text).toContain(`ublk_info{device="${device}",target="null"} 1\n`);
  }
});

test("buckets are cumulative and end with all", () => {
  for (const op of COUNTED_OPS) {
    const found = text.matchAll(
      RegExp(`_bucket\\{device="ublkb0",op="${op}",le="([^"]+)"\\} (\\d+)`, "g"),
    );
    const buckets = [...found].map(([, le, count]) => [Number(le), Number(count)] as const);
    expect(buckets.length).toBe(28);
    for (let at = 1; at < buckets.length - 1; at++) {
      expect(buckets[at]![0]).toBeGreaterThan(buckets[at - 1]![0]);
      expect(buckets[at]![1]).toBeGreaterThanOrEqual(buckets[at - 1]![1]);
    }
    expect(text).toContain(`op="${op}",le="+Inf"} ${op === "write" ? 3 : 0}\n`);
  }
});

test("a file is replaced, and nothing is left beside it", () => {
  const path = folder("a.prom");
  for (let turn = 0; turn < 2; turn++) writeMetrics([counted(0)], path);
  expect(readFileSync(path, "utf8")).toContain("ublk_in_flight");
  expect(readdirSync(folder(".")).filter((name) => name.startsWith("a.prom"))).toEqual(["a.prom"]);
  expect(String(thrown(() => writeMetrics([], "/nowhere/a.prom")))).toContain(
    "write /nowhere/a.prom: ENOENT",
  );
});
