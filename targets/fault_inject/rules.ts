/** What a disk is told to do wrong: the words that say it, and what they mean. */

import { constants } from "node:os";
import {
  absolutePath,
  hasShape,
  parseCount,
  parseSize,
  UsageError,
} from "../../src/target/parse.ts";
import { OP_NAMES, type OptionValues } from "../../src/target/target.ts";

export const SECTOR = 512;
export const SECTOR_MAX = 2 ** 43;
const DEFAULT_SIZE = "1G";
const HOUR_US = 3_600_000_000;
const SEED_MAX = 2 ** 32 - 1;

const WHOLE_LIFE = ["before-fetch", "in-start", "in-recovery"] as const;
const PER_REQUEST = ["between-fetch-and-commit", "before-commit"] as const;
export type Point = (typeof WHOLE_LIFE)[number] | (typeof PER_REQUEST)[number];
const POINTS: readonly Point[] = [...WHOLE_LIFE, ...PER_REQUEST];

export interface FaultConfig {
  /** None: the disk has `size` bytes, reads zeros and forgets what is written. */
  backing_file: string | undefined;
  size: number;
  /** Microseconds by operation; an operation that has none is not delayed. */
  delays: Record<number, number>;
  /** Part of the requests that fail, 0 to 1, of those that `errorSectors` touches. */
  errorRate: number;
  /** First and last sector; undefined for all. */
  errorSectors: [first: number, last: number] | undefined;
  /** Operations that fail. */
  errorOps: number[];
  errno: number;
  seed: number;
  die: { point: Point; count: number } | undefined;
  /** As they were typed, for `list`. */
  faults: Record<string, string>;
}

const FAULT_OPTIONS = {
  "delay-us": {
    type: "string",
    valueHint: "N",
    description: "requests take N microseconds longer; by operation: read=N,write=N,…",
  },
  "error-rate": {
    type: "string",
    valueHint: "PART",
    description: "so many of the requests fail: 0.01, or 1%",
  },
  "error-sectors": {
    type: "string",
    valueHint: "A-B",
    description: "requests fail that touch these sectors; with --error-rate, that part of them",
  },
  "error-ops": {
    type: "string",
    valueHint: "OPS",
    description: "only these fail: read,write,flush,discard,write-zeroes",
  },
  errno: { type: "string", valueHint: "NAME", description: "how they fail (default EIO)" },
  seed: { type: "string", valueHint: "N", description: "another choice of those that fail" },
  die: {
    type: "string",
    valueHint: "POINT",
    description: `the server kills itself: ${POINTS.join(", ")}; the last two at a request, POINT:N`,
  },
} as const;

export const faultOptions = {
  file: { type: "string", alias: "f", valueHint: "FILE", description: "keeps the data" },
  size: {
    type: "string",
    valueHint: "SIZE",
    description: `without FILE: size of a disk that reads zeros (default ${DEFAULT_SIZE}iB)`,
  },
  ...FAULT_OPTIONS,
} as const;

/** What was typed, to what it means; throws UsageError. */
export function configure(values: OptionValues): FaultConfig {
  const text = (name: keyof typeof FAULT_OPTIONS): string | undefined =>
    values[name] as string | undefined;
  const given = Object.keys(FAULT_OPTIONS).filter((name) => values[name] !== undefined);
  const sectors = text("error-sectors");
  const rate = text("error-rate");
  const some = rate ?? sectors ?? text("error-ops");
  for (const name of ["errno", "seed"] as const) {
    if (text(name) === undefined || some !== undefined) continue;
    throw new UsageError(`--${name}: say what fails: --error-rate, -sectors or -ops`);
  }
  return {
    ...parseBacking(values),
    delays: parseDelays(text("delay-us")),
    errorRate: rate === undefined ? Number(some !== undefined) : parseRate(rate),
    errorSectors: sectors === undefined ? undefined : parseRange(sectors),
    errorOps: parseOps("--error-ops", text("error-ops")),
    errno: parseErrno(text("errno") ?? "EIO"),
    seed: parseCount("--seed", text("seed") ?? "0", 0, SEED_MAX),
    die: text("die") === undefined ? undefined : parseDeath(text("die")!),
    faults: Object.fromEntries(given.map((name) => [name.replaceAll("-", "_"), values[name]])),
  } as FaultConfig;
}

/** A member that is undefined does not survive JSON, and so may be missing. */
export function isConfig(value: unknown): boolean {
  if (!hasShape(value, { size: "number", errno: "number", seed: "number" })) return false;
  const { backing_file, delays, errorRate, errorSectors, errorOps, die, faults } =
    value as Partial<FaultConfig>;
  const range = errorSectors ?? [0, 0];
  const points: readonly unknown[] = POINTS;
  return (
    (backing_file === undefined || hasShape(value, { backing_file: "path" })) &&
    isObject(delays) &&
    Object.values(delays).every(isNumber) &&
    isNumber(errorRate) &&
    Array.isArray(range) &&
    range.every(isNumber) &&
    Array.isArray(errorOps) &&
    errorOps.every(isNumber) &&
    (die === undefined || (isObject(die) && points.includes(die.point) && isNumber(die.count))) &&
    isObject(faults) &&
    Object.values(faults).every((text) => typeof text === "string")
  );
}

const isNumber = (value: unknown): boolean => typeof value === "number";
const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;

function parseBacking(values: OptionValues): Pick<FaultConfig, "backing_file" | "size"> {
  const file = values["file"];
  const size = parseSize("--size", String(values["size"] ?? DEFAULT_SIZE));
  if (size === 0 || size % SECTOR !== 0) {
    throw new UsageError(`--size '${values["size"]}': give a positive multiple of ${SECTOR}`);
  }
  if (file === undefined) return { backing_file: undefined, size };
  if (values["size"] !== undefined) throw new UsageError("--size: with -f, the file has the size");
  return { backing_file: absolutePath("-f", String(file)), size };
}

const opName = (text: string): string => text.toLowerCase().replaceAll("_", "-");
const opNumbers = new Map(Object.entries(OP_NAMES).map(([op, name]) => [opName(name), Number(op)]));

function parseOps(option: string, text: string | undefined): number[] {
  if (text === undefined) return [...opNumbers.values()];
  return text.split(",").map((name) => {
    const op = opNumbers.get(opName(name));
    if (op !== undefined) return op;
    throw new UsageError(`${option} '${text}': give some of ${[...opNumbers.keys()].join(",")}`);
  });
}

/** What stands before the first mark and all that stands behind it; or what there is. */
function halves(text: string, mark: string): string[] {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

/** "500" for all, "read=500,flush=20000", or both: then the one is an exception to the other. */
function parseDelays(text: string | undefined): Record<number, number> {
  const delays: Record<number, number> = {};
  const parts = (text?.split(",") ?? []).map((part) => halves(part, "="));
  const seen = new Set<string>();
  for (const [first = "", second] of parts.toSorted((one, other) => one.length - other.length)) {
    const name = second === undefined ? "all" : opName(first);
    if (seen.has(name)) throw new UsageError(`--delay-us '${text}': two delays for ${name}`);
    seen.add(name);
    const delay = parseCount("--delay-us", second ?? first, 0, HOUR_US);
    for (const op of parseOps("--delay-us", second === undefined ? undefined : first)) {
      delays[op] = delay;
    }
  }
  return delays;
}

function parseRate(text: string): number {
  const [, number, percent] = /^(\d*\.?\d+)(%?)$/.exec(text) ?? [];
  const rate = Number(number) / (percent === "%" ? 100 : 1);
  if (rate >= 0 && rate <= 1) return rate;
  throw new UsageError(`--error-rate '${text}': give a part such as 0.01 or 1%`);
}

function parseRange(text: string): [number, number] {
  const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [];
  const range: [number, number] = [Number(first), Number(last)];
  if (first !== undefined && range[0] <= range[1] && range[1] <= SECTOR_MAX) return range;
  throw new UsageError(`--error-sectors '${text}': give sectors of 512 bytes, such as 2048-4095`);
}

function parseErrno(text: string): number {
  const number = (constants.errno as Record<string, number>)[text.toUpperCase()];
  if (number !== undefined) return number;
  throw new UsageError(`--errno '${text}': give a name such as EIO, ENOSPC or ETIMEDOUT`);
}

function parseDeath(text: string): { point: Point; count: number } {
  const [name = "", count] = halves(text, ":");
  const point = POINTS.find((one) => one === name);
  const perRequest = PER_REQUEST.some((one) => one === point);
  if (point === undefined || (count !== undefined && !perRequest)) {
    throw new UsageError(`--die '${text}': give one of ${POINTS.join(", ")}; the last two with :N`);
  }
  return { point, count: parseCount("--die", count ?? "1", 1, Number.MAX_SAFE_INTEGER) };
}
