/**
 * Another size for an image that is being served.
 *
 * A power cut finds the old size or the new one, and at worst clusters that are counted and not
 * used: every step of the header is eight aligned bytes, durable before the next one is begun.
 *
 * Growing: what tables show behind the end goes; clusters for a longer L1 table are counted, the
 * table is written there, and the header takes to its place, then to its length; what would show
 * through the new part is hidden; then comes the size. Shrinking: entries behind the new end go,
 * then the L2 tables that are empty, then comes the size.
 */

import { EIO, ENOSPC } from "../../src/target/file_io.ts";
import { bytesAt, viewAt } from "../../src/target/memory.ts";
import { type Coroutine, type Io, type QueueContext } from "../../src/target/target.ts";
import type { Allocator, Release, Run } from "./allocate.ts";
import * as q from "./format.ts";
import type { RangeLocks } from "./locks.ts";
import { putOffset } from "./mapping.ts";
import type { Layer } from "./read.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";
import { DISCARD, FORGET, UNMAP, type Zeroes } from "./zero.ts";

export interface ResizeParts {
  context: QueueContext;
  store: Store;
  allocator: Allocator;
  tables: Tables;
  locks: RangeLocks;
  zeroes: Zeroes;
  release: Release;
  top: Layer;
}

export class Resizes {
  readonly #parts: ResizeParts;
  readonly #store: Store;
  readonly #top: Layer;

  constructor(parts: ResizeParts) {
    this.#parts = parts;
    this.#store = parts.store;
    this.#top = parts.top;
  }

  /** Before the block device follows when it grows, after it when it shrinks. 0 or -errno. */
  *run(io: Io, size: number): Coroutine {
    // Whole sectors: the guest may have written to all of the last one.
    const old = Math.max(this.#top.size, this.#store.header.size);
    if (size === this.#store.header.size) {
      this.#top.size = size; // which a shrinking may have left smaller that failed
      return 0;
    }
    return size > old ? yield* this.#grow(io, old, size) : yield* this.#shrink(io, old, size);
  }

  *#grow(io: Io, old: number, size: number): Coroutine {
    let failure = yield* this.#clearBehind(io, old, size);
    if (failure === 0) failure = yield* this.#growTable(io, size);
    if (failure < 0) return failure;
    this.#top.size = size;
    const hidden = yield* this.#hide(io, old, size);
    const entered = hidden < 0 ? hidden : yield* this.#enterSize(io, size);
    if (entered < 0) this.#top.size = old;
    return entered;
  }

  /** The state of a virtual machine may stand there: it is no part of what the disk shows. */
  *#clearBehind(io: Io, old: number, size: number): Coroutine {
    const { mapping, header, clusterSize } = this.#store;
    const covered = clusterSize * mapping.l2Entries;
    const tables = Math.min(header.l1Size, Math.ceil(size / covered));
    for (let index = Math.floor(old / covered); index < tables; index++) {
      if (mapping.l2TableOf(index * mapping.l2Entries) === 0) continue;
      const from = Math.max(index * covered, Math.ceil(old / clusterSize) * clusterSize);
      const failure = yield* this.#forget(io, from, (index + 1) * covered);
      if (failure < 0) return failure;
    }
    return yield* this.#dropTables(io, tables * covered, old);
  }

  /** Of a disk's last cluster the rest is nobody's, and a backing file may be longer. */
  *#hide(io: Io, old: number, size: number): Coroutine {
    const { clusterSize } = this.#store;
    const backing = this.#top.backing?.size ?? 0;
    const end = Math.min(size, Math.max(backing, Math.ceil(old / clusterSize) * clusterSize));
    if (end <= old) return 0;
    const failure = yield* this.#parts.zeroes.run(io, UNMAP, old, end);
    return failure < 0 ? failure : yield* this.#store.barrier(io);
  }

  *#growTable(io: Io, size: number): Coroutine {
    const { mapping, header, clusterSize } = this.#store;
    const entries = Math.ceil(size / (clusterSize * mapping.l2Entries));
    if (entries <= header.l1Size) return 0;
    if (entries * 8 > q.L1_BYTES_MAX) return -ENOSPC;
    const clusters = Math.ceil((entries * 8) / clusterSize);
    const first = yield* this.#allocate(io, clusters);
    if (first < 0) return first;
    yield* this.#parts.tables.l1Mutex.enter();
    try {
      return yield* this.#moveTable(io, first, clusters, entries);
    } finally {
      this.#parts.tables.l1Mutex.leave();
    }
  }

  /** Neighbouring clusters, counted in the file: the number of the first one, or -errno. */
  *#allocate(io: Io, wanted: number): Coroutine {
    const { allocator, release } = this.#parts;
    if (wanted > allocator.togetherMax) return yield* allocator.allocateAfterAll(io, wanted);
    let first = 0;
    let count = 0;
    while (count < wanted) {
      const run: Run = { cluster: 0, count: 0, slot: -1, fresh: false };
      let failure = yield* allocator.allocate(io, wanted - count, run);
      if (failure === 0) failure = yield* allocator.settleRun(io, run);
      const joins = failure === 0 && count > 0 && run.cluster === first + count;
      if (!joins && count > 0) release(first, count);
      if (failure < 0) return failure;
      if (!joins) first = run.cluster;
      count = joins ? count + run.count : run.count;
    }
    return first;
  }

  /** Nobody else changes L1 entries meanwhile. */
  *#moveTable(io: Io, first: number, clusters: number, entries: number): Coroutine {
    const { mapping, header, clusterSize, file } = this.#store;
    const length = clusters * clusterSize;
    const address = this.#parts.context.allocate(length);
    const { buffer, byteOffset } = mapping.l1;
    bytesAt(address, length).set(new Uint8Array(buffer, byteOffset, header.l1Size * 8));
    const offset = first * clusterSize;
    io.writeMeta(file, offset, address, length);
    let failure = yield;
    if (failure === 0) this.#store.extend(file, offset + length);
    if (failure === 0) failure = yield* this.#store.barrier(io);
    if (failure < 0) {
      this.#parts.release(first, clusters);
      return failure;
    }
    failure = yield* this.#parts.allocator.changeHeader(io, (view) => {
      putOffset(view, q.L1_TABLE_OFFSET_AT, offset);
    });
    if (failure < 0) return failure;
    const old = { offset: header.l1Offset, clusters: Math.ceil((header.l1Size * 8) / clusterSize) };
    mapping.l1 = viewAt(address, length);
    mapping.forbidden[2] = offset;
    mapping.forbidden[3] = offset + length;
    header.l1Offset = offset;
    this.#parts.release(old.offset / clusterSize, old.clusters);
    failure = yield* this.#parts.allocator.changeHeader(io, (view) => {
      view.setUint32(q.L1_SIZE_AT, entries);
    });
    if (failure === 0) header.l1Size = entries;
    return failure;
  }

  *#enterSize(io: Io, size: number): Coroutine {
    const failure = yield* this.#parts.allocator.changeHeader(io, (view) => {
      putOffset(view, q.SIZE_AT, size);
    });
    if (failure < 0) return failure;
    this.#store.header.size = size;
    this.#top.size = size;
    return 0;
  }

  /** The block device sends nothing any more for what goes. A straggler must do no harm. */
  *#shrink(io: Io, old: number, size: number): Coroutine {
    this.#top.size = size;
    const { clusterSize } = this.#store;
    const from = Math.ceil(size / clusterSize) * clusterSize;
    const end = Math.ceil(old / clusterSize) * clusterSize;
    let failure = from < end ? yield* this.#forget(io, from, end) : 0;
    if (failure === 0) failure = yield* this.#dropTables(io, old, size);
    // Or a cut might leave the new size with the old data behind it, for a disk that grows again.
    if (failure === 0) failure = yield* this.#store.barrier(io);
    return failure < 0 ? failure : yield* this.#enterSize(io, size);
  }

  /** Whole clusters behind the end. A data file's entries stay, so there the bytes have to go. */
  #forget(io: Io, from: number, end: number): Coroutine {
    const way = this.#store.mapping.external ? FORGET : DISCARD;
    return this.#parts.zeroes.run(io, way, from, end);
  }

  /** L2 tables that are behind the new end as a whole. Nothing in them counts any more. */
  *#dropTables(io: Io, old: number, size: number): Coroutine {
    const { mapping, clusterSize } = this.#store;
    const covered = clusterSize * mapping.l2Entries;
    const first = Math.ceil(size / covered) * 8;
    const end = Math.ceil(old / covered) * 8;
    if (first >= end) return 0;
    const { locks, tables } = this.#parts;
    const clusters = (end / 8) * mapping.l2Entries;
    const lock = yield* locks.lock((first / 8) * mapping.l2Entries, clusters - 1);
    yield* tables.l1Mutex.enter();
    try {
      for (let at = first, next; at < end; at = next) {
        next = at - (at % q.SECTOR) + q.SECTOR;
        const failure = yield* this.#dropSector(io, at, Math.min(end, next));
        if (failure < 0) return failure;
      }
      return 0;
    } finally {
      tables.l1Mutex.leave();
      locks.unlock(lock);
    }
  }

  /** L1 entries from byte `at` to `end` of the table, all in one sector: the file first. */
  *#dropSector(io: Io, at: number, end: number): Coroutine {
    const { mapping } = this.#store;
    const tables: number[] = [];
    for (let entry = at; entry < end; entry += 8) {
      const table = mapping.l2TableOf((entry / 8) * mapping.l2Entries);
      if (table < 0) return -EIO;
      if (table > 0) tables.push(table);
    }
    if (tables.length === 0) return 0;
    const failure = yield* this.#parts.tables.changeL1(io, at, (sector, within) => {
      for (let entry = at; entry < end; entry += 8) putOffset(sector, within + entry - at, 0);
    });
    if (failure < 0) return failure;
    for (const table of tables) this.#parts.tables.letGo(table);
    return 0;
  }
}
