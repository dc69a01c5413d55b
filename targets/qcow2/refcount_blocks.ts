/** New refcount blocks, and longer tables of them, as those that there are fill up. */

import { ENOSPC } from "../../src/target/file_io.ts";
import { bytesAt, copyMemory, viewAt } from "../../src/target/memory.ts";
import { type Coroutine, type Io, ZEROES_MAX } from "../../src/target/target.ts";
import type { Release } from "./allocate.ts";
import * as q from "./format.ts";
import { putOffset } from "./mapping.ts";
import type { RefcountTable } from "./refcount.ts";
import type { Store } from "./store.ts";
import { DIRTY } from "./table_cache.ts";
import { pinSlice, unpin, writeBack } from "./table_io.ts";

const TABLE_ENTRY_OFFSET_MAX = 2 ** 56;

/** Whoever calls holds the allocator's mutex. */
export class RefcountBlocks {
  readonly #store: Store;
  readonly #table: RefcountTable;
  readonly #release: Release;
  /** A sector of memory, to write table entries and the header from. */
  readonly #scratch: number;
  readonly #scratchBytes: Uint8Array;
  /** Bytes that the file can grow to, and that an entry can name. */
  readonly limit: number;
  /** No cluster at or above has ever been used. */
  freshFrom: number;

  constructor(store: Store, table: RefcountTable, release: Release, limit: number) {
    this.#store = store;
    this.#table = table;
    this.#release = release;
    this.limit = Math.min(limit, TABLE_ENTRY_OFFSET_MAX);
    this.#scratch = store.context.allocate(q.SECTOR);
    this.#scratchBytes = bytesAt(this.#scratch, q.SECTOR);
    this.freshFrom = Math.ceil(store.end(store.file) / store.clusterSize);
    if (Number.isFinite(limit)) this.freshFrom = Number.POSITIVE_INFINITY;
  }

  /** Sees to it that there is a refcount block in charge of `cluster`. */
  *provide(io: Io, cluster: number): Coroutine {
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

  /** As `Allocator.allocateAfterAll`. */
  *makeBehindAll(io: Io, wanted: number): Coroutine {
    const table = this.#table;
    const blocks = this.#blocksFor(wanted);
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
  }

  /** Writes `blocks` new blocks from cluster `first` on, which count `used` clusters as used. */
  *#makeBlocks(io: Io, first: number, blocks: number, used: number): Coroutine {
    const { clusterSize, file, cache } = this.#store;
    const table = this.#table;
    const begin = first * clusterSize;
    const end = begin + blocks * clusterSize;
    for (let cluster = first; cluster < first + used; cluster++) {
      if (!this.#store.mapping.isForbidden(cluster * clusterSize)) continue;
      return this.#store.fence(`cluster ${cluster} is in use and nothing counts it`);
    }
    if (end > this.limit) return -ENOSPC;
    for (let at = begin; at < end; at += ZEROES_MAX) {
      io.writeZeroes(file, at, Math.min(ZEROES_MAX, end - at));
      const failure = yield;
      if (failure < 0) return failure;
    }
    this.#store.extend(file, end);
    this.freshFrom = Math.max(this.freshFrom, first + used);
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
      if (failure < 0) return this.#store.fenceUnwritten("a refcount block", failure);
      done = upTo - first;
    }
    return 0;
  }

  /** Enters a block into the table: the file first, so that nobody relies on what it lacks. */
  *#setEntry(io: Io, index: number, block: number): Coroutine {
    const table = this.#table;
    const from = index * 8 - ((index * 8) % q.SECTOR);
    copyMemory(this.#scratch, table.address + from, q.SECTOR);
    putOffset(viewAt(this.#scratch, q.SECTOR), (index * 8) % q.SECTOR, block);
    const failure = yield* this.#store.writeMeta(io, table.offset + from, this.#scratch, q.SECTOR);
    if (failure < 0) return failure;
    putOffset(table.view, index * 8, block);
    this.#store.mapping.known.add(block / table.clusterSize);
    return 0;
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
    const blocks = this.#blocksFor(clusters);
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
    const taken = yield* this.rewriteHeader(io, (header) => {
      putOffset(header, q.REFCOUNT_TABLE_OFFSET_AT, offset);
      header.setUint32(q.REFCOUNT_TABLE_OFFSET_AT + 8, clusters);
    });
    if (taken < 0) return taken;
    Object.assign(table, { offset, clusters, entries: length / 8, address, view });
    for (let block = first; block < first + blocks; block++) this.#store.mapping.known.add(block);
    this.#forbidTable();
    this.#release(old.cluster, old.count);
    return 0;
  }

  /** How many blocks it takes to count `clusters` and themselves. */
  #blocksFor(clusters: number): number {
    let blocks = 1;
    while (blocks * this.#table.blockEntries < blocks + clusters) blocks++;
    return blocks;
  }

  /** The first refcount table entry behind all that have a block, and behind the file. */
  #firstUnused(): number {
    const table = this.#table;
    let index = table.entries;
    while (index > 0 && table.blockOf((index - 1) * table.blockEntries) === 0) index--;
    if (Number.isFinite(this.freshFrom)) {
      index = Math.max(index, Math.ceil(this.freshFrom / table.blockEntries));
    }
    return index;
  }

  /** Writes the header's first sector, changed, and makes it durable. */
  *rewriteHeader(io: Io, change: (view: DataView) => void): Coroutine {
    this.#store.image.read(this.#scratchBytes, 0);
    change(viewAt(this.#scratch, q.SECTOR));
    const failure = yield* this.#store.writeMeta(io, 0, this.#scratch, q.SECTOR);
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
