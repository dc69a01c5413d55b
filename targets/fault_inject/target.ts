/**
 * A disk that is slow, fails, or loses its server, as it was told: for testing what stands on it.
 *
 * One thread serves all queues, so that the same requests meet the same faults.
 */

import { openBackingFile } from "../../src/target/backing_file.ts";
import { fileDisk, fileHandlers } from "../../src/target/file_disk.ts";
import {
  type Coroutine,
  defineTarget,
  type Disk,
  type Handlers,
  type Io,
  OP_FLUSH,
  OP_READ,
  OP_WRITE,
  type OpenDisk,
  QUEUED,
  SLOW,
} from "../../src/target/target.ts";
import {
  configure,
  type FaultConfig,
  faultOptions,
  isConfig,
  type Point,
  SECTOR,
  SECTOR_MAX,
} from "./rules.ts";

/** How long START_DEV, or the command that ends a recovery, waits before the server dies. */
const IN_START_MS = 500;

export default defineTarget<FaultConfig>({
  name: "fault_inject",
  summary: "a disk that is slow, fails, or loses its server, for tests",
  options: faultOptions,
  configure,
  isConfig,
  files: ({ backing_file: path }) => (path === undefined ? [] : [path]),
  open(config, _secret, size) {
    const { disk, close } = openBacking(config, size);
    return { disk: { ...disk, threads: 1, report: { ...disk.report, ...config.faults } }, close };
  },
  attach(config, disk, context) {
    if (config.die?.point === "before-fetch") die();
    const base = disk.files.length > 0 ? fileHandlers(0) : zeroHandlers;
    return new Faults(config, base, context.recovering === true);
  },
});

function openBacking(config: FaultConfig, size?: number): OpenDisk {
  if (config.backing_file === undefined) return { disk: zeroDisk(config.size), close: () => {} };
  const path = config.backing_file;
  const file = openBackingFile(path, { readOnly: false, buffered: false, offset: 0, size });
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
