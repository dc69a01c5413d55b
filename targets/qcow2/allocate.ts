/** Finding free clusters and counting them, with new refcount blocks and tables as they fill up. */

import { EIO, ENOSPC } from "../../src/target/file_io.ts";
import { bytesAt, copyMemory, viewAt } from "../../src/target/memory.ts";
import { type Coroutine, type Io, ZEROES_MAX } from "../../src/target/target.ts";
import * as q from "./format.ts";
import { Mutex } from "./locks.ts";
import type { RefcountTable } from "./refcount.ts";
import { Reserve } from "./reserve.ts";
import type { Store } from "./store.ts";
import { DIRTY } from "./table_cache.ts";
import { pinSlice, settle, unpin, writeBack } from "./table_io.ts";

/** Neighbouring clusters that were just counted. */
export interface Run {
  cluster: number;
  count: number;
  /** Pinned while their count is not in the file yet, until `settleRun`; otherwise -1. */
  slot: number;
  /** From the reserve: they read zeros already, and their count is durable. */
  fresh: boolean;
}

/** Called with what is no longer needed once the change that replaced it is in the file. */
export type Release = (cluster: number, count: number) => void;

const TABLE_ENTRY_OFFSET_MAX = 2 ** 56;
const SECTOR = 512;
/** Between 0 and the errnos: look on. */
const NOTHING_HERE = 1;

export class Allocator {
  readonly #store: Store;
  readonly #table: RefcountTable;
  readonly #release: Release;
  readonly #mutex: Mutex;
  /** A sector of memory, to write table entries and the header from. */
  readonly #scratch: number;
  readonly #scratchBytes: Uint8Array;
  /** No cluster below is free. */
  #hint = 0;
  /** No cluster at or above has ever been used. */
  #freshFrom: number;
  readonly #reserve: Reserve;
  readonly #limit: number;

  /** `limit`: bytes that the file can grow to. */
  constructor(store: Store, table: RefcountTable, release: Release, limit: number) {
    this.#store = store;
    this.#table = table;
    this.#release = release;
    this.#limit = Math.min(limit, TABLE_ENTRY_OFFSET_MAX);
    this.#reserve = new Reserve(store.clusterSize);
    this.#mutex = new Mutex(store.context.runnable);
    this.#scratch = store.context.allocate(SECTOR);
    this.#scratchBytes = bytesAt(this.#scratch, SECTOR);
    this.#freshFrom = Math.ceil(store.end(store.file) / store.clusterSize);
    if (Number.isFinite(limit)) this.#freshFrom = Number.POSITIVE_INFINITY;
  }

  /** A cluster has become free. */
  freed(cluster: number): void {
    if (cluster < this.#hint) this.#hint = cluster;
  }

  /** From one to `wanted` neighbouring clusters, described in `run`. 0 or -errno. */
  *allocate(io: Io, wanted: number, run: Run): Coroutine {
    yield* this.#mutex.lock();
    try {
      for (;;) {
        if (this.#store.fenced) return -EIO;
        const reserve = this.#reserve;
        if (reserve.count > 0 && this.#hint >= reserve.next) {
          reserve.take(wanted, run);
          return 0;
        }
        const found = yield* this.#look(io, this.#hint, wanted, run);
        if (found !== NOTHING_HERE) return found;
      }
    } finally {
      this.#mutex.unlock();
    }
  }

  /** In the slice of counts with `cluster`: 0 for a run, NOTHING_HERE, or -errno. */
  *#look(io: Io, cluster: number, wanted: number, run: Run): Coroutine {
    if ((cluster + 1) * this.#store.clusterSize > this.#limit) return -ENOSPC;
    const failure = yield* this.#provideBlock(io, cluster);
    if (failure < 0) return failure;
    const slot = yield* this.pin(io, cluster);
    if (slot < 0) return slot;
    yield* settle(this.#store.cache, slot);
    const first = this.#firstFree(slot, cluster);
    const fresh = first >= this.#freshFrom;
    const most = fresh ? this.#reserve.ahead(wanted) : wanted;
    if (first >= 0 && this.#count(slot, first, most, run)) {
      return fresh ? yield* this.#fillReserve(io, run) : 0;
    }
    unpin(this.#store.cache, slot);
    return this.#store.fenced ? -EIO : NOTHING_HERE;
  }

  /** The slot of the slice with a cluster's count, pinned; or -errno. */
  pin(io: Io, cluster: number): Coroutine {
    const table = this.#table;
    const { cache, file } = this.#store;
    const offset = table.sliceOffset(table.blockOf(cluster), cluster);
    return pinSlice(cache, io, file, offset, table.sliceSize);
  }

  /** The first free cluster from `from` on, -1 when there is none before the slice ends. */
  #firstFree(slot: number, from: number): number {
    if (this.#hint < from) return -1; // meanwhile others have become free
    const reserve = this.#reserve;
    const sliceEnd = this.#table.sliceEnd(from);
    const end = reserve.count > 0 ? Math.min(sliceEnd, reserve.next) : sliceEnd;
    let first = from;
    while (first < end && this.#table.get(this.#store.cache.view, slot, first) !== 0) first++;
    this.#hint = first;
    return first < end ? first : -1;
  }

  /** Counts up to `most` free clusters from `first` on; false when they must not be used. */
  #count(slot: number, first: number, most: number, run: Run): boolean {
    const { cache, clusterSize, mapping } = this.#store;
    const view = cache.view;
    const limit = Math.floor(this.#limit / clusterSize);
    const end = Math.min(this.#table.sliceEnd(first), first + most, limit);
    let last = first;
    while (last < end && this.#table.get(view, slot, last) === 0) {
      if (mapping.isForbidden(last * clusterSize)) {
        this.#store.fence(`cluster ${last} is in use and its refcount is 0`);
        return false;
      }
      last++;
    }
    if (last === first) return false;
    for (let one = first; one < last; one++) this.#table.set(view, slot, one, 1);
    cache.state[slot]! |= DIRTY;
    this.#hint = last;
    run.cluster = first;
    run.count = last - first;
    run.slot = slot;
    run.fresh = false;
    this.#freshFrom = Math.max(this.#freshFrom, last);
    return true;
  }

  /** Makes counts and length of a run durable that lies behind the end of the file. */
  *#fillReserve(io: Io, run: Run): Coroutine {
    const { clusterSize, file } = this.#store;
    const first = run.cluster;
    const end = first + run.count;
    const counted = yield* this.settleRun(io, run);
    if (counted < 0) return counted;
    // Space that is there already makes writes cheaper; where it cannot be had, holes do.
    io.zeroRange(file, first * clusterSize, run.count * clusterSize);
    yield;
    io.writeZeroes(file, end * clusterSize - SECTOR, SECTOR);
    const failure = yield;
    if (failure < 0) {
      this.#reserve.shrink();
      this.#release(first, end - first);
      return failure;
    }
    this.#store.extend(file, end * clusterSize);
    const durable = yield* this.#store.barrier(io);
    if (durable < 0) return durable;
    this.#reserve.fill(first, end);
    return NOTHING_HERE;
  }

  /** At the end: what is left of the reserve, which nobody shall get any more. */
  takeBack(): { first: number; end: number } {
    const { next, end } = this.#reserve;
    this.#reserve.fill(end, end);
    return { first: next, end };
  }

  /** The file has the count of the run after this; durable it is after the next barrier. */
  *settleRun(io: Io, run: Run): Coroutine {
    if (run.slot < 0) return 0;
    const failure = yield* this.writeBack(io, run.slot, run.cluster);
    unpin(this.#store.cache, run.slot);
    run.slot = -1;
    return failure;
  }

  *writeBack(io: Io, slot: number, cluster: number): Coroutine {
    const table = this.#table;
    const { cache, file } = this.#store;
    const offset = table.sliceOffset(table.blockOf(cluster), cluster);
    const failure = yield* writeBack(cache, io, slot, file, offset, table.sliceSize);
    if (failure < 0) this.#store.fence(`a refcount block could not be written (${failure})`);
    return failure;
  }

  /** Sees to it that there is a refcount block in charge of `cluster`. */
  *#provideBlock(io: Io, cluster: number): Coroutine {
    const table = this.#table;
    const index = Math.floor(cluster / table.blockEntries);
    if (index >= table.entries) {
      const failure = yield* this.#growTable(io);
      if (failure < 0) return failure;
    }
    const block = table.blockOf(cluster);
    if (block > 0) return 0;
    if (block < 0) return this.#store.fence(`refcount table entry ${index} cannot be right`);
    // What a new block counts is free, so it may well stand there itself.
    const first = index * table.blockEntries;
    const failure = yield* this.#makeBlocks(io, first, 1, 1);
    if (failure < 0) return failure;
    const durable = yield* this.#store.barrier(io);
    if (durable < 0) return durable;
    return yield* this.#setEntry(io, index, first * table.clusterSize);
  }

  /** Writes `blocks` new blocks from cluster `first` on, which count `used` clusters as used. */
  *#makeBlocks(io: Io, first: number, blocks: number, used: number): Coroutine {
    const { clusterSize, file, cache } = this.#store;
    const table = this.#table;
    const begin = first * clusterSize;
    const end = begin + blocks * clusterSize;
    if (this.#store.mapping.isForbidden(begin)) {
      return this.#store.fence(`cluster ${first} is in use and nothing counts it`);
    }
    if (end > this.#limit) return -ENOSPC;
    for (let at = begin; at < end; at += ZEROES_MAX) {
      io.writeZeroes(file, at, Math.min(ZEROES_MAX, end - at));
      const failure = yield;
      if (failure < 0) return failure;
    }
    this.#store.extend(file, end);
    this.#freshFrom = Math.max(this.#freshFrom, first + used);
    for (let done = 0; done < used;) {
      const cluster = first + done;
      const block = begin + Math.floor(done / table.blockEntries) * clusterSize;
      const offset = table.sliceOffset(block, cluster);
      const slot = yield* pinSlice(cache, io, file, offset, table.sliceSize);
      if (slot < 0) return slot;
      const upTo = Math.min(table.sliceEnd(cluster), first + used);
      for (let one = cluster; one < upTo; one++) table.set(cache.view, slot, one, 1);
      cache.state[slot]! |= DIRTY;
      const failure = yield* writeBack(cache, io, slot, file, offset, table.sliceSize);
      unpin(cache, slot);
      if (failure < 0) return this.#store.fence(`a refcount block could not be written`);
      done = upTo - first;
    }
    return 0;
  }

  /** Enters a block into the table: the file first, so that nobody relies on what it lacks. */
  *#setEntry(io: Io, index: number, block: number): Coroutine {
    const table = this.#table;
    const from = index * 8 - ((index * 8) % SECTOR);
    copyMemory(this.#scratch, table.address + from, SECTOR);
    putOffset(viewAt(this.#scratch, SECTOR), (index * 8) % SECTOR, block);
    const failure = yield* this.#store.writeMeta(io, table.offset + from, this.#scratch, SECTOR);
    if (failure === 0) putOffset(table.view, index * 8, block);
    return failure;
  }

  /**
   * A larger table, with the blocks that count it, where the old one's reach ends: what stands
   * there is counted by nobody yet. The header takes to it in one sector.
   */
  *#growTable(io: Io): Coroutine {
    const table = this.#table;
    const { clusterSize, file } = this.#store;
    const most = q.REFCOUNT_TABLE_BYTES_MAX / clusterSize;
    const clusters = Math.min(most, table.clusters * 2);
    if (clusters <= table.clusters) return -ENOSPC;
    const first = table.entries * table.blockEntries;
    let blocks = 1;
    while (blocks * table.blockEntries < blocks + clusters) blocks++;
    if (table.entries + blocks > (clusters * clusterSize) / 8) return -ENOSPC;
    const failure = yield* this.#makeBlocks(io, first, blocks, blocks + clusters);
    if (failure < 0) return failure;
    const length = clusters * clusterSize;
    const address = this.#store.context.allocate(length);
    copyMemory(address, table.address, table.entries * 8);
    const view = viewAt(address, length);
    for (let block = 0; block < blocks; block++) {
      putOffset(view, (table.entries + block) * 8, (first + block) * clusterSize);
    }
    const offset = (first + blocks) * clusterSize;
    io.writeMeta(file, offset, address, length);
    const written = yield;
    if (written < 0) return written;
    this.#store.extend(file, offset + length);
    const durable = yield* this.#store.barrier(io);
    if (durable < 0) return durable;
    const old = { cluster: table.offset / clusterSize, count: table.clusters };
    const taken = yield* this.#rewriteHeader(io, (header) => {
      putOffset(header, q.REFCOUNT_TABLE_OFFSET_AT, offset);
      header.setUint32(q.REFCOUNT_TABLE_OFFSET_AT + 8, clusters);
    });
    if (taken < 0) return taken;
    Object.assign(table, { offset, clusters, entries: length / 8, address, view });
    this.#forbidTable();
    this.#release(old.cluster, old.count);
    return 0;
  }

  /** More neighbours than `allocate` ever finds: a block of counts stands between. */
  get togetherMax(): number {
    return this.#table.blockEntries - 1;
  }

  /**
   * `wanted` neighbouring clusters where nobody counts anything yet, behind all that is used, with
   * new blocks in front. Their number is answered, durably counted, or -errno.
   */
  *allocateAfterAll(io: Io, wanted: number): Coroutine {
    yield* this.#mutex.lock();
    try {
      const table = this.#table;
      let blocks = 1;
      while (blocks * table.blockEntries < blocks + wanted) blocks++;
      let index = this.#firstUnused();
      while (index + blocks > table.entries) {
        const grown = yield* this.#growTable(io);
        if (grown < 0) return grown;
        index = this.#firstUnused();
      }
      const first = index * table.blockEntries;
      const made = yield* this.#makeBlocks(io, first, blocks, blocks + wanted);
      if (made < 0) return made;
      const durable = yield* this.#store.barrier(io);
      if (durable < 0) return durable;
      for (let block = 0; block < blocks; block++) {
        const offset = (first + block) * table.clusterSize;
        const failure = yield* this.#setEntry(io, index + block, offset);
        if (failure < 0) return failure;
      }
      return first + blocks;
    } finally {
      this.#mutex.unlock();
    }
  }

  /** The first refcount table entry behind all that have a block, and behind the file. */
  #firstUnused(): number {
    const table = this.#table;
    let index = table.entries;
    while (index > 0 && table.blockOf((index - 1) * table.blockEntries) === 0) index--;
    if (Number.isFinite(this.#freshFrom)) {
      index = Math.max(index, Math.ceil(this.#freshFrom / table.blockEntries));
    }
    return index;
  }

  /** Writes the header's first sector, changed, and makes it durable. */
  *changeHeader(io: Io, change: (view: DataView) => void): Coroutine {
    yield* this.#mutex.lock();
    try {
      return yield* this.#rewriteHeader(io, change);
    } finally {
      this.#mutex.unlock();
    }
  }

  *#rewriteHeader(io: Io, change: (view: DataView) => void): Coroutine {
    this.#store.image.read(this.#scratchBytes, 0);
    change(viewAt(this.#scratch, SECTOR));
    const failure = yield* this.#store.writeMeta(io, 0, this.#scratch, SECTOR);
    if (failure < 0) return failure;
    return yield* this.#store.barrier(io);
  }

  /** Ranges of tables that no data may stand in: the third one is the refcount table. */
  #forbidTable(): void {
    const { forbidden } = this.#store.mapping;
    forbidden[4] = this.#table.offset;
    forbidden[5] = this.#table.offset + this.#table.clusters * this.#store.clusterSize;
  }
}

export function putOffset(view: DataView, at: number, offset: number): void {
  view.setUint32(at, Math.floor(offset / q.TWO_32));
  view.setUint32(at + 4, offset);
}
