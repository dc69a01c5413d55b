/** The report in Markdown. */

import { type Verdict, verdicts } from "./verdicts.ts";
import {
  type Cell,
  costOf,
  digits,
  type Idle,
  type Raw,
  speedOf,
  type Spread,
  type Where,
} from "./numbers.ts";
import { type Section, SECTIONS, type Workload, WORKLOADS } from "./table.ts";

const INTRODUCTION = `# Results

Written by \`bun run bench\`. Only ratios mean something: everything ran in one emulated guest, the
contestants one after another, round by round. A cell is the median of the rounds, with the least
and the greatest in parentheses.`;

const KIB_OF = { "4k": 4, "128k": 128 } as const;

export function report(raw: Raw, picture: string): string {
  const sections = SECTIONS.filter(({ id }) => raw.cells.some(({ section }) => section === id));
  return [
    INTRODUCTION,
    table(["", ""], Object.entries(raw.about)),
    ...(sections.length > 0 ? [`![The same as a picture](${picture})`] : []),
    "## Goals",
    "Requests in thousands a second, CPU time in microseconds for one request. What user CPU is where\n" +
      "nothing is emulated: [NATIVE.md](NATIVE.md).",
    goalsTable(verdicts(raw)),
    ...sections.flatMap((section) => sectionParts(raw, section)),
    ...idleParts(raw.idle),
    ...failures(raw),
  ].join("\n\n");
}

const goalsTable = (all: readonly Verdict[]) =>
  table(
    ["goal", "where", "ours", "theirs", "value", "bound", "verdict"],
    all.map((one) => [
      ...[one.what, one.where, code(one.ours), code(one.theirs)],
      ...[
        one.value === undefined || !Number.isFinite(one.value) ? "–" : one.value.toFixed(2),
        one.bound,
      ],
      one.verdict === "reached" ? "reached" : `**${one.verdict}**`,
    ]),
  );

/** The contestant in code type, so that hyphens stay hyphens. */
const code = (text: string) => text.replace(/^(.+): (\S+)$/, "`$1`: $2");

function sectionParts(raw: Raw, section: Section): string[] {
  const cells = raw.cells.filter((one) => one.section === section.id);
  const names = [...new Set(cells.map(({ contestant }) => contestant))];
  const workloads = WORKLOADS.filter(({ id }) => cells.some(({ workload }) => workload === id));
  const row = (name: string, show: (workload: Workload) => string) => [
    `\`${name}\``,
    ...workloads.map(show),
  ];
  const at = (contestant: string, workload: Workload) => ({
    ...{ section: section.id, contestant, workload: workload.id },
  });
  const titles = workloads.map(({ title }) => title);
  const speeds = names.map((name) => row(name, (workload) => speed(cells, at(name, workload))));
  const daemons = names.filter((name) => cells.some((c) => c.contestant === name && c.cpu));
  const costs = daemons.map((name) => [
    ...row(name, (workload) => cost(cells, at(name, workload))),
    memory(raw, section.id, name),
  ]);
  return [
    `## ${section.title[0]?.toUpperCase()}${section.title.slice(1)}`,
    "Thousands of requests a second for 4K, MiB a second for 128K.",
    table(["", ...titles], speeds),
    "The daemon's CPU time for one request in microseconds: all of it / its user part; and its " +
      "resident memory in MiB after the workloads, buffers included.",
    table(["", ...titles, "memory"], costs),
  ];
}

function speed(cells: readonly Cell[], where: Where): string {
  const found = speedOf(cells, where);
  if (found) return around(found, perSecond(where.workload));
  const failed = cells.some(
    (one) => one.contestant === where.contestant && one.workload === where.workload,
  );
  return failed ? "failed" : "";
}

/** From requests a second to what the tables show. */
export function perSecond(workload: string): number {
  const bs = WORKLOADS.find(({ id }) => id === workload)?.bs ?? "4k";
  return bs === "4k" ? 1 / 1000 : KIB_OF[bs] / 1024;
}

export const around = ({ median, min, max, count }: Spread, factor: number) =>
  count === 1
    ? digits(median * factor)
    : `${digits(median * factor)} (${digits(min * factor)}–${digits(max * factor)})`;

function cost(cells: readonly Cell[], where: Where): string {
  const [cpu, user] = [costOf(cells, where, "cpu"), costOf(cells, where, "user")];
  return cpu === undefined || user === undefined ? "" : `${digits(cpu)} / ${digits(user)}`;
}

function memory(raw: Raw, section: string, contestant: string): string {
  const all = raw.loaded.filter((one) => one.section === section && one.contestant === contestant);
  return all.length > 0 ? digits(Math.max(...all.map(({ rss }) => rss)) / 1024) : "";
}

function idleParts(idle: readonly Idle[]): string[] {
  if (idle.length === 0) return [];
  const mib = (kib: number | undefined) => (kib === undefined ? "failed" : digits(kib / 1024));
  const rows = idle.map(({ contestant, devices, rss, pss, anonymous, cpu }) => [
    ...[`\`${contestant}\``, String(devices), mib(rss), mib(pss), mib(anonymous)],
    cpu === undefined ? "failed" : digits(cpu),
  ]);
  return [
    "## Idle null devices",
    "Sums over all daemons. Rss counts what they share once for each, and of the program what " +
      "happens to be cached; Pss once in all; anonymous is what each has for itself.",
    table(["", "devices", "Rss, MiB", "Pss, MiB", "anonymous, MiB", "CPU, ms a second"], rows),
  ];
}

function failures({ cells, idle }: Raw): string[] {
  const said = new Set<string>();
  for (const { section, contestant, workload, error } of cells) {
    if (error) said.add(`- ${section}, \`${contestant}\`, ${workload}: ${error}`);
  }
  for (const { contestant, devices, error } of idle) {
    if (error) said.add(`- idle, \`${contestant}\`, ${devices} devices: ${error}`);
  }
  return said.size === 0 ? [] : ["## Failures", [...said].join("\n")];
}

/** Columns aligned as the formatter does it. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const clean = [head, ...rows].map((row) => row.map((one) => one.replaceAll("|", "\\|")));
  const widths = head.map((_, at) => Math.max(3, ...clean.map((row) => (row[at] ?? "").length)));
  const line = (row: readonly string[]) =>
    `| ${widths.map((width, at) => (row[at] ?? "").padEnd(width)).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  const [first = [], ...others] = clean;
  return [line(first), rule, ...others.map(line)].join("\n");
}
