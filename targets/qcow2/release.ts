/**
 * Clusters that a table has let go of, until they are free.
 *
 * Their count drops, and their space goes back, only when the table that let them go is durable,
 * and when every request has ended that may still read or write them by the old mapping.
 */

import { type SyncFile, SysError } from "../../src/target/file_io.ts";
import { bytesAt, viewAt } from "../../src/target/memory.ts";
import { type Coroutine, type Io, PIECES_MAX } from "../../src/target/target.ts";
import type { Allocator } from "./allocate.ts";
import { getRefcount, type RefcountTable, setRefcount } from "./refcount.ts";
import type { Store } from "./store.ts";
import { DIRTY, keyOf, MISS, SLICE } from "./table_cache.ts";
import { settle, unpin } from "./table_io.ts";

interface Released {
  cluster: number;
  count: number;
  /** The fdatasync that has to succeed first, and the newest request that has to end first. */
  sync: number;
  serial: number;
}

const NOT_HERE = Number.POSITIVE_INFINITY;

export class Releases {
  readonly #store: Store;
  readonly #table: RefcountTable;
  #waiting: Released[] = [];
  /** Requests count up as they arrive; by slot, the number of the one that is there. */
  #serial = 0;
  readonly #arrivals: number[] = [];
  #working = false;
  /** Clusters that wait. */
  count = 0;

  constructor(store: Store, table: RefcountTable) {
    this.#store = store;
    this.#table = table;
  }

  arrived(io: Io): void {
    this.#arrivals[io.slot] = ++this.#serial;
  }

  done(io: Io): void {
    this.#arrivals[io.slot] = NOT_HERE;
  }

  /** The file has a table now that no longer shows these clusters. */
  release(cluster: number, count: number): void {
    const sync = this.#store.syncsStarted + 1;
    const serial = this.#serial;
    this.count += count;
    const last = this.#waiting.at(-1);
    const joins = last !== undefined && last.cluster + last.count === cluster;
    if (joins && last.sync === sync && last.serial === serial) last.count += count;
    else this.#waiting.push({ cluster, count, sync, serial });
  }

  /** Frees what may be freed by now. Called when nothing of `io` itself is under way any more. */
  *reclaim(io: Io, allocator: Allocator): Coroutine {
    if (this.#working || this.#waiting.length === 0 || this.#store.fenced) return 0;
    this.#working = true;
    try {
      const oldest = this.#oldestBut(io.slot);
      for (const one of this.#takeDue(oldest)) {
        this.count -= one.count;
        const failure = yield* this.#freeRun(io, allocator, one);
        if (failure < 0) return failure;
      }
      return 0;
    } finally {
      this.#working = false;
    }
  }

  /** After a DISCARD of a disk that was written at random there may be a million of them. */
  #takeDue(oldest: number): Released[] {
    const due: Released[] = [];
    const rest: Released[] = [];
    for (const one of this.#waiting) {
      const isDue = one.sync <= this.#store.syncsFinished && one.serial < oldest;
      (isDue ? due : rest).push(one);
    }
    this.#waiting = rest;
    return joined(due);
  }

  #oldestBut(slot: number): number {
    let oldest = NOT_HERE;
    for (let other = 0; other < this.#arrivals.length; other++) {
      if (other !== slot) oldest = Math.min(oldest, this.#arrivals[other] ?? NOT_HERE);
    }
    return oldest;
  }

  *#freeRun(io: Io, allocator: Allocator, run: Released): Coroutine {
    const { cache } = this.#store;
    const end = run.cluster + run.count;
    for (let cluster = run.cluster; cluster < end;) {
      if (this.#table.blockOf(cluster) <= 0) return this.#notCounted(cluster);
      const upTo = Math.min(end, this.#table.sliceEnd(cluster));
      const slot = yield* allocator.pin(io, cluster);
      if (slot < 0) return slot;
      try {
        const table = this.#tableAmong(cluster, upTo);
        if (table >= 0) return this.#store.fence(`cluster ${table} is a table, and data as well`);
        yield* this.#giveBack(io, slot, cluster, upTo);
        yield* settle(cache, slot);
        for (let one = cluster; one < upTo; one++) {
          const count = this.#table.get(cache.view, slot, one);
          if (count === 0) return this.#notCounted(one);
          if (count > Number.MAX_SAFE_INTEGER) continue; // 64 bits of it: a leak is the lesser evil
          this.#table.set(cache.view, slot, one, count - 1);
          if (count === 1) this.#nowFree(allocator, one);
        }
        cache.state[slot]! |= DIRTY;
        const failure = yield* allocator.writeBack(io, slot, cluster);
        if (failure < 0) return failure;
      } finally {
        unpin(cache, slot);
      }
      cluster = upTo;
    }
    return 0;
  }

  /** Gives space back to the file system while the clusters still count: nobody else has them. */
  *#giveBack(io: Io, slot: number, from: number, upTo: number): Coroutine {
    const { cache, clusterSize, file } = this.#store;
    let pieces = 0;
    for (let first = from; first < upTo;) {
      let last = first;
      while (last < upTo && this.#table.get(cache.view, slot, last) === 1) last++;
      if (last > first) {
        io.punchHole(file, first * clusterSize, (last - first) * clusterSize);
        // Space that cannot be given back is no reason to fail.
        if (++pieces % PIECES_MAX === 0) yield;
      }
      first = last + 1;
    }
    if (pieces % PIECES_MAX !== 0) yield;
    return 0;
  }

  #nowFree(allocator: Allocator, cluster: number): void {
    const { cache, clusterSize, file, mapping } = this.#store;
    allocator.freed(cluster);
    // It may have been a table; the cluster may hold another one soon.
    for (let at = 0; at < clusterSize; at += mapping.sliceSize) {
      const slot = cache.lookUp(keyOf(file, cluster * clusterSize + at));
      if (slot !== MISS) cache.forget(slot);
    }
  }

  /** An entry of compressed data may have led to it: its count is not the data's to drop. */
  #tableAmong(from: number, upTo: number): number {
    const { mapping, clusterSize } = this.#store;
    for (let cluster = from; cluster < upTo; cluster++) {
      if (mapping.isForbidden(cluster * clusterSize)) return cluster;
    }
    return -1;
  }

  #notCounted(cluster: number): number {
    return this.#store.fence(`cluster ${cluster} was in use and its refcount is 0`);
  }

  /**
   * At the end, when no request is left: frees the rest at once, and what nobody ever had, which
   * is cut off where the file still ends with it.
   */
  close(unused: { first: number; end: number }): void {
    const count = unused.end - unused.first;
    if ((this.#waiting.length === 0 && count === 0) || this.#store.fenced) return;
    const { image, clusterSize } = this.#store;
    image.sync();
    const counts = new SyncCounts(this.#store, this.#table);
    for (const one of this.#waiting) {
      for (let at = one.cluster; at < one.cluster + one.count; at++) counts.drop(at, true);
    }
    for (let at = unused.first; at < unused.end; at++) counts.drop(at, false);
    counts.write();
    this.#waiting = [];
    const ends = count > 0 && image.size() === unused.end * clusterSize;
    if (ends) image.truncate(unused.first * clusterSize);
    image.sync();
  }
}

/** In the order of the file, neighbours as one. */
function joined(runs: Released[]): Released[] {
  const all: Released[] = [];
  for (const run of runs.toSorted((one, other) => one.cluster - other.cluster)) {
    const last = all.at(-1);
    if (last !== undefined && last.cluster + last.count === run.cluster) last.count += run.count;
    else all.push({ ...run });
  }
  return all;
}

/** Space that cannot be given back is no reason to fail. */
function giveBack(image: SyncFile, offset: number, length: number): void {
  try {
    image.punch(offset, length);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
  }
}

/** Counts changed one slice at a time, without the ring. */
class SyncCounts {
  readonly #store: Store;
  readonly #table: RefcountTable;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = -1;

  constructor(store: Store, table: RefcountTable) {
    this.#store = store;
    this.#table = table;
    const address = store.context.allocate(SLICE);
    this.#bytes = bytesAt(address, table.sliceSize);
    this.#view = viewAt(address, table.sliceSize);
  }

  drop(cluster: number, punch: boolean): void {
    const table = this.#table;
    const { clusterSize, image } = this.#store;
    const block = table.blockOf(cluster);
    if (block <= 0) return; // nothing counts it
    if (this.#store.mapping.isForbidden(cluster * clusterSize)) return; // it is no data
    const offset = table.sliceOffset(block, cluster);
    if (offset !== this.#offset) {
      this.write();
      image.read(this.#bytes, offset);
      this.#offset = offset;
    }
    const index = cluster % table.sliceEntries;
    const count = getRefcount(this.#view, 0, index, table.order);
    if (count === 0 || count > Number.MAX_SAFE_INTEGER) return;
    if (count === 1 && punch) giveBack(image, cluster * clusterSize, clusterSize);
    setRefcount(this.#view, 0, index, table.order, count - 1);
  }

  write(): void {
    if (this.#offset >= 0) this.#store.image.write(this.#bytes, this.#offset);
  }
}
