/** Counters in Prometheus' text format, for node_exporter's textfile collector and its kin. */

import { writeOutput } from "../control/output.ts";
import { absolutePath } from "../target/parse.ts";
import { print } from "./print.ts";
import type { Counted } from "./stat.ts";

const US = 1e-6;

export function writeMetrics(devices: readonly Counted[], file: string): void {
  const text = metricsText(devices);
  if (file === "-") return print(text);
  writeOutput(absolutePath("--metrics", file), text);
}

type Sample = [labels: string, value: number, suffix?: string];

export function metricsText(devices: readonly Counted[]): string {
  const each = (samples: (device: Counted, labels: string) => Sample[]): Sample[] =>
    devices.flatMap((device) => samples(device, `device="ublkb${device.dev_id}"`));
  const ops = (value: (op: Counted["stats"]["ops"]["read"]) => number): Sample[] =>
    each(({ stats }, labels) =>
      Object.entries(stats.ops).map(([op, one]) => [`${labels},op="${op}"`, value(one)]),
    );
  return [
    metric(
      "info",
      "gauge",
      "Devices of this server and their targets.",
      each(({ target }, labels) => [[`${labels},target="${target}"`, 1]]),
    ),
    metric(
      "in_flight",
      "gauge",
      "Requests that are not done.",
      each(({ stats }, labels) => [[labels, stats.in_flight]]),
    ),
    metric(
      "start_time_seconds",
      "gauge",
      "When the daemon began to count, as Unix time.",
      each(({ stats }, labels) => [[labels, stats.since_ms / 1000]]),
    ),
    metric(
      "bytes_total",
      "counter",
      "Bytes of requests that succeeded.",
      ops((op) => op.bytes),
    ),
    metric(
      "errors_total",
      "counter",
      "Requests that failed.",
      ops((op) => op.errors),
    ),
    metric(
      "latency_seconds",
      "histogram",
      "From arrival to answer, by the clock of the turns.",
      each(latencies),
    ),
  ].join("");
}

function latencies({ stats }: Counted, labels: string): Sample[] {
  return Object.entries(stats.ops).flatMap(([op, { histogram, ios, time_us }]) => {
    const own = `${labels},op="${op}"`;
    let sum = 0;
    const buckets = histogram.slice(0, -1).map((count, bucket): Sample => {
      sum += count;
      return [`${own},le="${2 ** bucket * US}"`, sum, "_bucket"];
    });
    return [
      ...buckets,
      [`${own},le="+Inf"`, ios, "_bucket"],
      [own, time_us * US, "_sum"],
      [own, ios, "_count"],
    ];
  });
}

function metric(name: string, type: string, help: string, samples: Sample[]): string {
  const full = `ublk_${name}`;
  const lines = samples.map(
    ([labels, value, suffix = ""]) => `${full}${suffix}{${labels}} ${value}`,
  );
  return [`# HELP ${full} ${help}`, `# TYPE ${full} ${type}`, ...lines, ""].join("\n");
}
