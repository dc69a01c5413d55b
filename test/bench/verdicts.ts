/** Whether the numbers reach the goals. */

import { type Amount, type Choice, GOALS, type Ratio } from "./goals.ts";
import { type Cell, costOf, digits, type Idle, type Raw, speedOf } from "./numbers.ts";
import { WORKLOADS } from "./table.ts";

export interface Verdict {
  what: string;
  where: string;
  ours: string;
  theirs: string;
  value: number | undefined;
  bound: string;
  /** "reached", "missed by 12 %", "not measured" */
  verdict: string;
}

export function verdicts(raw: Raw): Verdict[] {
  return GOALS.flatMap((goal) =>
    goal.kind === "amount" ? [judgeAmount(goal, raw.idle)] : judgeRatios(goal, raw.cells),
  );
}

function judgeAmount(goal: Amount, idle: readonly Idle[]): Verdict {
  const value = goal.value(idle);
  const bound = `≤ ${goal.bound} ${goal.unit}`;
  const shown = value === undefined ? "" : `${digits(value)} ${goal.unit}`;
  const { what } = goal;
  return {
    ...{ what, where: "", ours: shown, theirs: "", value, bound },
    verdict: judge(value, goal.bound, "most"),
  };
}

function judgeRatios(goal: Ratio, cells: readonly Cell[]): Verdict[] {
  return goal.sections.flatMap((section) =>
    goal.workloads.flatMap((workload) => {
      const [ours, theirs] = [goal.ours, goal.theirs].map((choice) =>
        best(goal.of, cells, { section, workload }, choice),
      );
      const measuredAtAll = cells.some(
        (one) => one.section === section && one.workload === workload,
      );
      return measuredAtAll
        ? [judgeRatio(goal, `${section}, ${title(workload)}`, ours, theirs)]
        : [];
    }),
  );
}

function judgeRatio(goal: Ratio, where: string, ours?: Best, theirs?: Best): Verdict {
  const value = ours && theirs ? ours.value / theirs.value : undefined;
  const direction = goal.of === "iops" ? "least" : "most";
  return {
    what: goal.what,
    where,
    ours: shown(ours, goal.of),
    theirs: shown(theirs, goal.of),
    value,
    bound: `${direction === "least" ? "≥" : "≤"} ${goal.bound} ×`,
    verdict: judge(value, goal.bound, direction),
  };
}

export function judge(value: number | undefined, bound: number, direction: "least" | "most") {
  if (value === undefined || !Number.isFinite(value)) return "not measured";
  if (direction === "least" ? value >= bound : value <= bound) return "reached";
  return `missed by ${digits(Math.abs(value / bound - 1) * 100)} %`;
}

interface Best {
  contestant: string;
  value: number;
}

function best(
  of: "iops" | "user",
  cells: readonly Cell[],
  where: { section: string; workload: string },
  choice: Choice,
): Best | undefined {
  const names = new Set(cells.map(({ contestant }) => contestant).filter(choice));
  const all = [...names].flatMap((contestant) => {
    const place = { ...where, contestant };
    const value = of === "user" ? costOf(cells, place, of) : speedOf(cells, place)?.median;
    return value === undefined ? [] : [{ contestant, value }];
  });
  const sign = of === "iops" ? -1 : 1;
  return all.toSorted((a, b) => sign * (a.value - b.value))[0];
}

const title = (id: string) => WORKLOADS.find((one) => one.id === id)?.title ?? id;

function shown(one: Best | undefined, of: "iops" | "user"): string {
  if (one === undefined) return "–";
  return `${one.contestant}: ${digits(of === "iops" ? one.value / 1000 : one.value)}`;
}
