/** Finding free clusters and counting them. */

import { EIO, ENOSPC } from "../../src/target/file_io.ts";
import type { Coroutine, Io } from "../../src/target/target.ts";
import * as q from "./format.ts";
import { Gate } from "./locks.ts";
import type { RefcountTable } from "./refcount.ts";
import { RefcountBlocks } from "./refcount_blocks.ts";
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

/** Between 0 and the errnos: look on. */
const NOTHING_HERE = 1;

export class Allocator {
  readonly #store: Store;
  readonly #table: RefcountTable;
  readonly #release: Release;
  readonly #blocks: RefcountBlocks;
  readonly #mutex: Gate;
  /** No cluster below is free. */
  #hint = 0;
  readonly #reserve: Reserve;

  /** `limit`: bytes that the file can grow to. */
  constructor(store: Store, table: RefcountTable, release: Release, limit: number) {
    this.#store = store;
    this.#table = table;
    this.#release = release;
    this.#blocks = new RefcountBlocks(store, table, release, limit);
    this.#reserve = new Reserve(store.clusterSize);
    this.#mutex = new Gate(store.context.runnable);
  }

  /** A cluster has become free. */
  freed(cluster: number): void {
    if (cluster < this.#hint) this.#hint = cluster;
  }

  /** From one to `wanted` neighbouring clusters, described in `run`. 0 or -errno. */
  *allocate(io: Io, wanted: number, run: Run): Coroutine {
    yield* this.#mutex.enter();
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
      this.#mutex.leave();
    }
  }

  /** In the slice of counts with `cluster`: 0 for a run, NOTHING_HERE, or -errno. */
  *#look(io: Io, cluster: number, wanted: number, run: Run): Coroutine {
    if ((cluster + 1) * this.#store.clusterSize > this.#blocks.limit) return -ENOSPC;
    const failure = yield* this.#blocks.provide(io, cluster);
    if (failure < 0) return failure;
    const slot = yield* this.pin(io, cluster);
    if (slot < 0) return slot;
    yield* settle(this.#store.cache, slot);
    const first = this.#firstFree(slot, cluster);
    const fresh = first >= this.#blocks.freshFrom;
    const most = fresh ? this.#reserve.ahead(wanted) : wanted;
    if (first >= 0 && this.#count(slot, first, most, run)) {
      return fresh ? yield* this.#fillReserve(io, run, wanted) : 0;
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
    const limit = Math.floor(this.#blocks.limit / clusterSize);
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
    this.#blocks.freshFrom = Math.max(this.#blocks.freshFrom, last);
    return true;
  }

  /**
   * Makes counts and length of a run durable that lies behind the end of the file. Where there is
   * no space for all of it, there may be for the `wanted` clusters: NOTHING_HERE, to look again.
   */
  *#fillReserve(io: Io, run: Run, wanted: number): Coroutine {
    const { clusterSize, file } = this.#store;
    const first = run.cluster;
    const end = first + run.count;
    const counted = yield* this.settleRun(io, run);
    if (counted < 0) return counted;
    // Space that is there already makes writes cheaper; where it cannot be had, holes do.
    io.zeroRange(file, first * clusterSize, run.count * clusterSize);
    yield;
    io.writeZeroes(file, end * clusterSize - q.SECTOR, q.SECTOR);
    const failure = yield;
    if (failure < 0) {
      this.#reserve.shrink();
      this.#release(first, end - first);
      // Now, not with the next FLUSH: it is what the next try needs.
      io.punchHole(file, first * clusterSize, run.count * clusterSize);
      yield;
      return run.count > wanted ? NOTHING_HERE : failure;
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
    if (failure < 0) this.#store.fenceUnwritten("a refcount block", failure);
    return failure;
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
    yield* this.#mutex.enter();
    try {
      return yield* this.#blocks.makeBehindAll(io, wanted);
    } finally {
      this.#mutex.leave();
    }
  }

  /** Writes the header's first sector, changed, and makes it durable. */
  *changeHeader(io: Io, change: (view: DataView) => void): Coroutine {
    yield* this.#mutex.enter();
    try {
      return yield* this.#blocks.rewriteHeader(io, change);
    } finally {
      this.#mutex.leave();
    }
  }
}
