/**
 * What a disk means: the contract between a target and the server.
 *
 * A target says which disk a configuration stands for (`open`, in the main thread) and what each
 * request means (`Handlers`, in a Worker). It never learns how commands or bytes travel.
 */

import { EOPNOTSUPP, type SysError } from "../../ffi/errno.ts";
import {
  UBLK_IO_F_FUA,
  UBLK_IO_F_NOUNMAP,
  UBLK_IO_OP_DISCARD,
  UBLK_IO_OP_FLUSH,
  UBLK_IO_OP_READ,
  UBLK_IO_OP_WRITE,
  UBLK_IO_OP_WRITE_ZEROES,
} from "../../ffi/ublk_cmd.ts";

export const OP_READ = UBLK_IO_OP_READ;
export const OP_WRITE = UBLK_IO_OP_WRITE;
export const OP_FLUSH = UBLK_IO_OP_FLUSH;
export const OP_DISCARD = UBLK_IO_OP_DISCARD;
export const OP_WRITE_ZEROES = UBLK_IO_OP_WRITE_ZEROES;
export const OP_NAMES: Readonly<Record<number, string>> = {
  [OP_READ]: "READ",
  [OP_WRITE]: "WRITE",
  [OP_FLUSH]: "FLUSH",
  [OP_DISCARD]: "DISCARD",
  [OP_WRITE_ZEROES]: "WRITE_ZEROES",
};
export const FLAG_FUA = UBLK_IO_F_FUA;
export const FLAG_NOUNMAP = UBLK_IO_F_NOUNMAP;

/**
 * A verdict is one int: >= 0 bytes done; -1..-4095 failed with that errno; below that, what
 * happens next.
 */
export const QUEUED = -4096; // my SQEs are in the ring; the request ends when the last is done
export const SLOW = -4097; //   call runIo(): I have to wait for something first

/** The verdict on an operation that a target does not have. */
export const UNSUPPORTED = -EOPNOTSUPP;

/** The registered file that is the target's first one; 0 is the char device. */
export const DATA_FILE = 1;

/** How many verbs of an `Io` may be in flight before the target waits for them. */
export const PIECES_MAX = 8;

/** How many bytes one `writeZeroes` may cover. */
export const ZEROES_MAX = 1 << 20;

/**
 * One request, for as long as it lasts. Its verbs only queue: nothing has happened until the
 * request ends (`QUEUED`) or a coroutine was resumed. Offsets, positions and lengths are bytes;
 * `at` is a position inside the request.
 */
export interface Io {
  /** Which of the thread's places for requests it has: 0, 1, 2, … */
  readonly slot: number;
  readonly op: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** Backing file to request. */
  readFile(file: number, fileOffset: number, at: number, length: number): void;
  /** Request to backing file; `durable` when it has to be on stable storage afterwards. */
  writeFile(file: number, fileOffset: number, at: number, length: number, durable: boolean): void;
  syncFile(file: number): void;
  /** Gives the space back; the range reads zeros. */
  punchHole(file: number, fileOffset: number, length: number): void;
  /** The range reads zeros and keeps its space. */
  zeroRange(file: number, fileOffset: number, length: number): void;
  /** Writes zeros the hard way, `ZEROES_MAX` at the most. */
  writeZeroes(file: number, fileOffset: number, length: number): void;
  /** Zeros into the request. */
  zeroBytes(at: number, length: number): void;
  /** Memory of the target to request. */
  putBytes(at: number, address: number, length: number): void;
  /** Request to memory of the target. */
  getBytes(at: number, address: number, length: number): void;
  /** Backing file to memory of the target. */
  readMeta(file: number, fileOffset: number, address: number, length: number): void;
  /** Memory of the target to backing file. */
  writeMeta(file: number, fileOffset: number, address: number, length: number): void;
  /** Lets time pass; one wait at a time. */
  wait(microseconds: number): void;
}

/**
 * Yields nothing to wait for its own verbs, and is answered 0 or -errno; yields a WaitList to wait
 * for somebody else. Returns what a verdict says. It changes hands only at a yield: whatever
 * stands between two of them is a critical section.
 */
export type Coroutine = Generator<WaitList | undefined, number, number>;

/** Requests that wait for the same thing. Waking makes them runnable; the loop runs them. */
export class WaitList {
  readonly #runnable: Io[];
  #waiting: Io[] = [];

  /** `runnable`: where the thread's loop looks, `QueueContext.runnable`. */
  constructor(runnable: Io[]) {
    this.#runnable = runnable;
  }

  park(io: Io): void {
    this.#waiting.push(io);
  }

  wakeAll(): void {
    this.#runnable.push(...this.#waiting);
    this.#waiting = [];
  }
}

/** What a thread has to offer to its target. */
export interface QueueContext {
  /** For WaitLists. */
  runnable: Io[];
  /** Zeroed memory that the kernel may keep, page-aligned; answers its address. */
  allocate(length: number): number;
  /** The answer to the target's question. */
  secret?: string | undefined;
  /** One line for the daemon's log: an event that a person must know, not one of every IO. */
  log?(line: string): void;
  /** The device is taken over from a server that is gone. */
  recovering?: boolean;
}

export interface Handlers {
  /** The thread is about to fetch for the first time; START_DEV waits for it, or soon will. */
  begin?(): void;
  /** Queues verbs, allocates nothing, answers a verdict. */
  queueIo(io: Io): number;
  /** The way of requests that have to wait in between. */
  runIo?(io: Io): Coroutine;
  /** The request has ended, whichever way it went: nothing of it is in flight any more. */
  ioDone?(io: Io): void;
  /**
   * The disk gets `size` bytes: before the block device when it grows, after it when it shrinks.
   * Runs beside requests, on an `io` of its own. Returns 0 or -errno; not there: nothing to do.
   */
  resize?(io: Io, size: number): Coroutine;
  /** The thread ends and no request is left. May take its time. */
  close?(): void;
}

/** How a device takes the memory of a request. What does not fit is split. */
export interface Segments {
  /** Pieces of consecutive memory in one request. */
  count: number;
  /** Bytes of one piece. */
  size: number;
  /** Between two pieces, addresses must be multiples of this + 1; 0 where gaps do not matter. */
  gapMask: number;
}

/** Facts of an open disk. The server derives flags and parameters from them; plain data. */
export interface Disk {
  size: number;
  /** log2 of the logical and the physical block size. */
  blockBits: number;
  physicalBits: number;
  readOnly: boolean;
  rotational: boolean;
  /** Registered files 1, 2, … of every ring that serves the disk. */
  files: number[];
  /** There is a cache that FLUSH makes durable; with `fua`, single writes can be too. */
  flush: boolean;
  fua: boolean;
  /** Bytes of one unit that DISCARD can free; 0 when it frees nothing. */
  discardGranularity: number;
  writeZeroes: boolean;
  /** Has to see data, not only to steer it: it uses putBytes or getBytes. */
  touchesBytes: boolean;
  /** Leaves bytes of a READ as they were: only a buffer of our own may be shown so. */
  copyOnly?: true;
  /** Memory of requests that go to its files unseen must be aligned so; 1 where anything goes. */
  memoryAlignment: number;
  /** What such memory is best made of; undefined where nothing is known. */
  segments: Segments | undefined;
  /** 1: one thread serves all queues, so that no state needs to be shared. */
  threads: 1 | "any";
  /** What `list` says of the disk, under stable names. */
  report: Record<string, string | number | boolean>;
}

/** An open disk and the way to let go of it. */
export interface OpenDisk {
  disk: Disk;
  close(): void;
  /** Not there: the disk keeps its size. */
  resizer?: Resizer;
}

/**
 * What another size takes, in the main thread. Sizes are bytes of the disk, whole blocks; `block`
 * is one of the device, which may be larger than what the target has found.
 */
export interface Resizer {
  /** The size to take when none is asked for: what the backing has now. Undefined for none. */
  found(block: number): number | undefined;
  /** Throws SysError when the disk cannot go from one size to the other. Changes nothing. */
  check(from: number, to: number, block: number): void;
  /** Makes the backing so: before the threads are told when it grows, after them when not. */
  apply(from: number, to: number, block: number): void;
  /** What is saved from now on. */
  config(size: number): unknown;
}

/** One option of a target, in citty's words. */
export interface OptionDef {
  type: "string" | "boolean";
  alias?: string;
  description: string;
  valueHint?: string;
  /** All that its value can be, where that is a list. */
  choices?: readonly string[];
}

/** Values of the options that were given, by name. */
export type OptionValues = Record<string, string | boolean | undefined>;

/** What `ublk check` wants, and what it is told. */
export interface CheckWish {
  repair: "leaks" | "all" | undefined;
  /** Told how far the work is, from 0 to 1. */
  progress?: (part: number) => void;
}
export interface CheckReport {
  /** Exit status, as `qemu-img check` has it. */
  status: number;
  lines: string[];
  json: Record<string, unknown>;
  /** Why there is nothing to report, but for the status. */
  refusal?: SysError;
}

/** An image and what it stands on, the image itself first; stable names. */
export interface InfoReport {
  images: Record<string, unknown>[];
}

/** For images that nobody serves. Throw SysError. */
export interface ImageTools {
  check(path: string, wish: CheckWish): CheckReport;
  info(path: string): InfoReport;
}

export interface TargetDef<Config> {
  /** `ublk add -t NAME` */
  name: string;
  summary: string;
  options: Record<string, OptionDef>;
  /** Options to plain JSON with absolute paths: this is what is saved. No IO. */
  configure(values: OptionValues): Config;
  /** Whether a configuration that was saved is whole; see `hasShape`. */
  isConfig(value: unknown): boolean;
  /** What has to be asked at the terminal before `open`; undefined for nothing. Throws nothing. */
  question?(config: Config): string | undefined;
  /**
   * The paths of all that `open` would open, when it could; not there: nothing. Locks and changes
   * nothing: somebody serves it. Throws SysError for what it can see that `open` would refuse.
   */
  files?(config: Config): string[];
  /**
   * Opens, locks and inspects, in the main thread. Throws SysError. `secret`: the answer. `size`:
   * bytes of a disk that was live before, as its block device has them; what it is kept in may
   * have grown since.
   */
  open(config: Config, secret?: string, size?: number): OpenDisk;
  /** In each Worker: wiring. May read what `open` has looked at, and writes nothing. */
  attach(config: Config, disk: Disk, context: QueueContext): Handlers;
  /** Of a target whose images have a format of their own. */
  tools?(): Promise<ImageTools>;
}

/** Answers its argument; it exists so that `Config` is inferred. */
export function defineTarget<Config>(def: TargetDef<Config>): TargetDef<Config> {
  return def;
}

/** A registry does not know configurations; only their own target looks inside. */
export type AnyTarget = TargetDef<unknown>;

/** Name to definition, each loaded when it is asked for. */
export type TargetRegistry = Record<string, () => Promise<AnyTarget>>;
