/** What the parts of the write path share: files, the barrier, and the fence. */

import { EIO, type SyncFile } from "../../src/target/file_io.ts";
import { type Coroutine, type Io, type QueueContext, WaitList } from "../../src/target/target.ts";
import type { FastPath } from "./fast.ts";
import type { Header } from "./header.ts";
import type { Mapping } from "./mapping.ts";
import type { Reader } from "./read.ts";
import type { TableCache } from "./table_cache.ts";

export interface StoreParts {
  context: QueueContext;
  cache: TableCache;
  fast: FastPath;
  reader: Reader;
  mapping: Mapping;
  header: Header;
  /** The image file, for what is done at once, at the start and at the end. */
  image: SyncFile;
  ends: Float64Array;
}

/** Runs after everybody who was woken before. */
class TurnList extends WaitList {
  readonly #runnable: Io[];

  constructor(runnable: Io[]) {
    super(runnable);
    this.#runnable = runnable;
  }

  override park(io: Io): void {
    this.#runnable.push(io);
  }
}

export class Store {
  readonly context: QueueContext;
  readonly cache: TableCache;
  readonly reader: Reader;
  readonly mapping: Mapping;
  readonly header: Header;
  readonly image: SyncFile;
  readonly clusterSize: number;
  /** Registered numbers of the files with the tables and with the data. */
  readonly file: number;
  readonly dataFile: number;
  /** To yield when those who wait for the same thing should come along first. */
  readonly turn: WaitList;
  fenced = false;
  /** fdatasyncs so far, and the last one that succeeded. */
  syncsStarted = 0;
  syncsFinished = 0;
  readonly #fast: FastPath;
  readonly #ends: Float64Array;
  readonly #synced: WaitList;
  #syncing = false;

  constructor(parts: StoreParts) {
    this.context = parts.context;
    this.cache = parts.cache;
    this.reader = parts.reader;
    this.mapping = parts.mapping;
    this.header = parts.header;
    this.image = parts.image;
    this.clusterSize = parts.mapping.clusterSize;
    this.file = parts.mapping.file;
    this.dataFile = parts.mapping.dataFile;
    this.turn = new TurnList(parts.context.runnable);
    this.#fast = parts.fast;
    this.#ends = parts.ends;
    this.#synced = new WaitList(parts.context.runnable);
  }

  /** From now on nothing is written any more, and reading goes on. Answers EIO. */
  fence(reason: string): number {
    this.#fast.writes = false;
    if (!this.fenced) {
      const name = this.image.path;
      this.context.log?.(`${name}: ${reason}: NO WRITE IS ACCEPTED ANY MORE, reads go on`);
    }
    this.fenced = true;
    return -EIO;
  }

  /** The same where a write failed, with -errno. */
  fenceUnwritten(what: string, failure: number): number {
    return this.fence(`${what} could not be written (errno ${-failure})`);
  }

  /**
   * Everything whose write had completed before the call is durable after it. One fdatasync
   * serves all who wait for it. 0 or -errno.
   */
  *barrier(io: Io): Coroutine {
    const wanted = this.syncsStarted + 1;
    while (this.syncsFinished < wanted) {
      if (this.fenced) return -EIO;
      if (this.#syncing) {
        yield this.#synced;
        continue;
      }
      this.#syncing = true;
      const number = ++this.syncsStarted;
      io.syncFile(this.file);
      if (this.dataFile !== this.file) io.syncFile(this.dataFile);
      const failure = yield;
      this.#syncing = false;
      // What could not be made durable once may be gone: asking again would hide that.
      if (failure < 0) this.fence(`fdatasync failed (errno ${-failure})`);
      else this.syncsFinished = number;
      this.#synced.wakeAll();
      if (failure < 0) return failure;
    }
    return 0;
  }

  /** Writes metadata; when that fails, file and memory differ, and the fence falls. */
  *writeMeta(io: Io, offset: number, address: number, length: number): Coroutine {
    io.writeMeta(this.file, offset, address, length);
    const failure = yield;
    if (failure < 0) this.fenceUnwritten("a table", failure);
    return failure;
  }

  end(file: number): number {
    return this.#ends[file]!;
  }

  /** The file reaches up to `end` now, by a write that has completed. */
  extend(file: number, end: number): void {
    if (end > this.#ends[file]!) this.#ends[file] = end;
    const whole = Math.ceil(end / this.clusterSize) * this.clusterSize;
    if (file === this.file && whole > this.mapping.dataEnd) this.mapping.dataEnd = whole;
  }
}
