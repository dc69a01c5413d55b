/** What `stat` and `top` print: rates as a table, histograms as bars. */

import type { Rates } from "../control/rates.ts";
import type { Report } from "./stat.ts";
import { amount, bytes, columns, duration } from "./table.ts";

const HEADING = [
  ...["DEVICE", "TYPE", "OP", ">IO/S", ">BYTES/S", ">SIZE", ">INFLIGHT", ">DEPTH"],
  ...[">MEAN", ">P50<", ">P99<", ">ERRORS"],
];
const BAR_CELLS = 40;

/** A line for each operation that happened, or one that says that none did. */
export function statText(reports: readonly Report[]): string {
  if (reports.length === 0) return "no devices that are counted\n";
  return columns(HEADING, reports.flatMap(rows));
}

function rows(report: Report): string[][] {
  const seen = Object.entries(report.ops).filter(([, rates]) => rates.ios > 0);
  const all: [string, Rates][] = seen.length === 1 ? seen : [["all", report.total], ...seen];
  return all.map(([op, rates], at) => [
    at === 0 ? report.block_device : "",
    at === 0 ? report.target : "",
    op,
    amount(rates.iops),
    bytes(rates.bytes_per_second),
    rates.ios === 0 ? "-" : bytes(rates.bytes / rates.ios),
    at === 0 ? String(report.in_flight) : "",
    at === 0 ? report.queue_depth.toFixed(1) : "",
    rates.ios === 0 ? "-" : duration(rates.latency_mean_us),
    rates.ios === 0 ? "-" : duration(rates.latency_p50_us),
    rates.ios === 0 ? "-" : duration(rates.latency_p99_us),
    String(rates.errors),
  ]);
}

export function histograms(reports: readonly Report[]): string {
  const parts = reports.flatMap((report) =>
    Object.entries(report.ops)
      .filter(([, rates]) => rates.ios > 0)
      .map(([op, { histogram }]) => `${report.block_device} ${op}\n${bars(histogram)}`),
  );
  return parts.length === 0 ? "nothing has happened\n" : parts.join("\n");
}

function bars(histogram: readonly number[]): string {
  const first = histogram.findIndex((count) => count > 0);
  const last = histogram.findLastIndex((count) => count > 0);
  const most = Math.max(...histogram);
  const rows = histogram.slice(first, last + 1).map((count, index) => {
    const bucket = first + index;
    const isLast = bucket === histogram.length - 1;
    const limit = isLast ? `>= ${duration(2 ** (bucket - 1))}` : `< ${duration(2 ** bucket)}`;
    return [limit, String(count), "#".repeat(Math.ceil((count / most) * BAR_CELLS))];
  });
  return columns([">latency", ">requests", ""], rows);
}
