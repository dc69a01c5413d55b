/**
 * A disk that is slow, fails, or loses its server, as it was told: for testing what stands on it.
 *
 * One thread serves all queues, so that the same requests meet the same faults.
 */

import { constants } from "node:os";
import { resolve } from "node:path";
import { openBackingFile } from "../src/target/backing_file.ts";
import { fileDisk, fileHandlers } from "../src/target/file_disk.ts";
import { hasShape, parseCount, parseSize, UsageError } from "../src/target/parse.ts";
import {
  type Coroutine,
  defineTarget,
  type Disk,
  type Handlers,
  type Io,
  OP_FLUSH,
  OP_NAMES,
  OP_READ,
  OP_WRITE,
  type OpenDisk,
  type OptionValues,
  QUEUED,
  SLOW,
} from "../src/target/target.ts";

const SECTOR = 512;
const DEFAULT_SIZE = "1G";
const HOUR_US = 3_600_000_000;
const SEED_MAX = 2 ** 32 - 1;
const SECTOR_MAX = 2 ** 43;

const WHOLE_LIFE = ["before-fetch", "in-start", "in-recovery"] as const;
const PER_REQUEST = ["between-fetch-and-commit", "before-commit"] as const;
type Point = (typeof WHOLE_LIFE)[number] | (typeof PER_REQUEST)[number];
const POINTS: readonly Point[] = [...WHOLE_LIFE, ...PER_REQUEST];

/** How long START_DEV, or the command that ends a recovery, waits before the server dies. */
const IN_START_MS = 500;

interface FaultConfig {
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

export default defineTarget<FaultConfig>({
  name: "fault_inject",
  summary: "a disk that is slow, fails, or loses its server, for tests",
  options: {
    file: { type: "string", alias: "f", valueHint: "FILE", description: "keeps the data" },
    size: {
      type: "string",
      valueHint: "SIZE",
      description: `without FILE: size of a disk that reads zeros (default ${DEFAULT_SIZE}iB)`,
    },
    ...FAULT_OPTIONS,
  },
  configure(values) {
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
  },
  isConfig,
  open(config) {
    const { disk, close } = openBacking(config);
    return { disk: { ...disk, threads: 1, report: { ...disk.report, ...config.faults } }, close };
  },
  attach(config, disk, context) {
    if (config.die?.point === "before-fetch") die();
    const base = disk.files.length > 0 ? fileHandlers(0) : zeroHandlers;
    return new Faults(config, base, context.recovering === true);
  },
});

/** A member that is undefined does not survive JSON, and so may be missing. */
function isConfig(value: unknown): boolean {
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
  if (file === "") throw new UsageError("-f '': name a file");
  if (values["size"] !== undefined) throw new UsageError("--size: with -f, the file has the size");
  return { backing_file: resolve(String(file)), size };
}

const opNumbers = new Map(
  Object.entries(OP_NAMES).map(([op, name]) => [
    name.toLowerCase().replaceAll("_", "-"),
    Number(op),
  ]),
);

function parseOps(option: string, text: string | undefined): number[] {
  if (text === undefined) return [...opNumbers.values()];
  return text.split(",").map((name) => {
    const op = opNumbers.get(name.toLowerCase().replaceAll("_", "-"));
    if (op !== undefined) return op;
    throw new UsageError(`${option} '${text}': give some of ${[...opNumbers.keys()].join(",")}`);
  });
}

/** "500" for all, or "read=500,flush=20000". */
function parseDelays(text: string | undefined): Record<number, number> {
  const delays: Record<number, number> = {};
  for (const part of text?.split(",") ?? []) {
    const [first = "", second] = part.split("=");
    const ops = second === undefined ? undefined : first;
    const delay = parseCount("--delay-us", second ?? first, 0, HOUR_US);
    for (const op of parseOps("--delay-us", ops)) delays[op] = delay;
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
  const [name = "", count] = text.split(":");
  const point = POINTS.find((one) => one === name);
  const perRequest = PER_REQUEST.some((one) => one === point);
  if (point === undefined || (count !== undefined && !perRequest)) {
    throw new UsageError(`--die '${text}': give one of ${POINTS.join(", ")}; the last two with :N`);
  }
  return { point, count: parseCount("--die", count ?? "1", 1, Number.MAX_SAFE_INTEGER) };
}

function openBacking(config: FaultConfig): OpenDisk {
  if (config.backing_file === undefined) return { disk: zeroDisk(config.size), close: () => {} };
  const path = config.backing_file;
  const file = openBackingFile(path, { readOnly: false, buffered: false, offset: 0 });
  return { disk: fileDisk(file, false, { backing_file: path }), close: file.close };
}

/** With a cache, though nothing is kept: FLUSH is an operation that can be slow or fail, too. */
function zeroDisk(size: number): Disk {
  return {
    size,
    blockBits: 9,
    physicalBits: 12,
    readOnly: false,
    rotational: false,
    files: [],
    flush: true,
    fua: true,
    discardGranularity: SECTOR,
    writeZeroes: true,
    touchesBytes: false,
    memoryAlignment: 1,
    segments: undefined,
    threads: 1,
    report: {},
  };
}

const zeroHandlers: Handlers = {
  queueIo(io) {
    if (io.op !== OP_READ) return io.op === OP_WRITE ? io.length : 0;
    io.zeroBytes(0, io.length);
    return QUEUED;
  },
};

function die(): void {
  process.kill(process.pid, "SIGKILL");
}

/** What happens to a request before the disk underneath sees it. */
class Faults implements Handlers {
  readonly #config: FaultConfig;
  readonly #base: Handlers;
  readonly #recovering: boolean;
  readonly #first: number;
  readonly #end: number;
  #random: number;
  #arrived = 0;
  #done = 0;

  constructor(config: FaultConfig, base: Handlers, recovering: boolean) {
    this.#config = config;
    this.#base = base;
    this.#recovering = recovering;
    const [first, last] = config.errorSectors ?? [0, SECTOR_MAX];
    this.#first = first * SECTOR;
    this.#end = (last + 1) * SECTOR;
    this.#random = config.seed;
  }

  begin(): void {
    if (this.#config.die?.point !== (this.#recovering ? "in-recovery" : "in-start")) return;
    Bun.sleepSync(IN_START_MS);
    die();
  }

  queueIo(io: Io): number {
    this.#arrived++;
    if (this.#isTime("between-fetch-and-commit", this.#arrived)) die();
    if (this.#delay(io) > 0) return SLOW;
    return this.#fails(io) ? -this.#config.errno : this.#base.queueIo(io);
  }

  *runIo(io: Io): Coroutine {
    const delay = this.#delay(io);
    if (delay > 0) {
      io.wait(delay);
      const failure = yield;
      if (failure < 0) return failure;
      if (this.#fails(io)) return -this.#config.errno;
      const verdict = this.#base.queueIo(io);
      if (verdict === QUEUED) {
        const result = yield;
        return result < 0 ? result : QUEUED;
      }
      if (verdict !== SLOW) return verdict;
    }
    return yield* this.#base.runIo!(io);
  }

  /** Everything is done, also to the file; only nobody is told. */
  ioDone(): void {
    this.#done++;
    if (this.#isTime("before-commit", this.#done)) die();
  }

  #isTime(point: Point, count: number): boolean {
    const death = this.#config.die;
    return death?.point === point && death.count === count;
  }

  #delay(io: Io): number {
    return this.#config.delays[io.op] ?? 0;
  }

  #fails(io: Io): boolean {
    const { errorRate, errorOps, errorSectors } = this.#config;
    if (errorRate === 0 || !errorOps.includes(io.op)) return false;
    if (errorSectors !== undefined && !this.#touches(io)) return false;
    return errorRate === 1 || this.#chance() < errorRate;
  }

  #touches(io: Io): boolean {
    if (io.op === OP_FLUSH) return false;
    return io.offset < this.#end && io.offset + io.length > this.#first;
  }

  /** 0 up to 1 (mulberry32). */
  #chance(): number {
    this.#random = (this.#random + 0x6d2b79f5) | 0;
    let bits = Math.imul(this.#random ^ (this.#random >>> 15), 1 | this.#random);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  }
}
