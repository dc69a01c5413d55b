/** What was measured, and the few statistics made of it. */

export interface Cell {
  section: string;
  contestant: string;
  workload: string;
  round: number;
  /** Requests a second. */
  iops?: number;
  /** Of the daemon, in microseconds: CPU time, and its part outside the kernel. */
  cpu?: number;
  user?: number;
  /** Those that this time was spent on. */
  requests?: number;
  error?: string;
}

/** A daemon's resident memory after its workloads, in KiB. */
export interface Loaded {
  section: string;
  contestant: string;
  rss: number;
}

export interface Idle {
  contestant: string;
  devices: number;
  /** Sums over the daemons, in KiB. */
  rss?: number;
  pss?: number;
  anonymous?: number;
  /** Milliseconds of CPU time a second, of all of them. */
  cpu?: number;
  error?: string;
}

export interface Raw {
  about: Record<string, string>;
  cells: Cell[];
  loaded: Loaded[];
  idle: Idle[];
}

export interface Spread {
  median: number;
  min: number;
  max: number;
  count: number;
}

export function spread(values: readonly (number | undefined)[]): Spread | undefined {
  const sorted = values.filter((value) => value !== undefined).toSorted((a, b) => a - b);
  if (sorted.length === 0) return undefined;
  const at = (index: number) => sorted[index] ?? 0;
  const middle = (sorted.length - 1) / 2;
  const median = (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2;
  return { median, min: at(0), max: at(sorted.length - 1), count: sorted.length };
}

export const same = (cell: Cell, section: string, contestant: string, workload: string) =>
  cell.section === section && cell.contestant === contestant && cell.workload === workload;

export interface Where {
  section: string;
  contestant: string;
  workload: string;
}

const at = (cells: readonly Cell[], { section, contestant, workload }: Where) =>
  cells.filter((cell) => same(cell, section, contestant, workload));

/** Requests a second over the rounds. */
export function speedOf(cells: readonly Cell[], where: Where): Spread | undefined {
  return spread(at(cells, where).map(({ iops }) => iops));
}

/**
 * Microseconds for one request, over all rounds together: the kernel learns by sampling which part
 * is the user's, so that a single round knows little about a small one.
 */
export function costOf(
  cells: readonly Cell[],
  where: Where,
  what: "cpu" | "user",
): number | undefined {
  const known = at(cells, where).filter((cell) => cell.requests !== undefined);
  const sum = (of: "cpu" | "user" | "requests") =>
    known.reduce((total, cell) => total + (cell[of] ?? 0), 0);
  return known.length === 0 ? undefined : sum(what) / sum("requests");
}

/** Three digits that count, and never less than the integer part. */
export function digits(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 99.95 || size === 0 ? 0 : size >= 9.995 ? 1 : 2);
}
