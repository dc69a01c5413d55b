/** L2 tables that are ours to change: new ones, and copies of those that snapshots share. */

import { EIO } from "../../src/target/file_io.ts";
import { bytesAt, viewAt } from "../../src/target/memory.ts";
import { type Coroutine, type Io, WaitList, ZEROES_MAX } from "../../src/target/target.ts";
import type { Allocator, Release, Run } from "./allocate.ts";
import * as q from "./format.ts";
import { Gate } from "./locks.ts";
import { putOffset } from "./mapping.ts";
import type { Store } from "./store.ts";
import type { Workspaces } from "./workspace.ts";

export class Tables {
  readonly #store: Store;
  readonly #allocator: Allocator;
  readonly #workspaces: Workspaces;
  readonly #release: Release;
  /** L1 entries that are being worked on. */
  readonly #busy = new Set<number>();
  readonly #done: WaitList;
  /** Of those who change L1 entries, or where they stand. */
  readonly l1Mutex: Gate;
  readonly #scratch: number;
  readonly #scratchBytes: Uint8Array;
  readonly #scratchView: DataView;

  constructor(store: Store, allocator: Allocator, workspaces: Workspaces, release: Release) {
    this.#store = store;
    this.#allocator = allocator;
    this.#workspaces = workspaces;
    this.#release = release;
    this.#done = new WaitList(store.context.runnable);
    this.l1Mutex = new Gate(store.context.runnable);
    this.#scratch = store.context.allocate(q.SECTOR);
    this.#scratchBytes = bytesAt(this.#scratch, q.SECTOR);
    this.#scratchView = viewAt(this.#scratch, q.SECTOR);
  }

  /** Sees to it that the L2 table in charge of `cluster` is there and ours alone. */
  *own(io: Io, cluster: number): Coroutine {
    const { mapping } = this.#store;
    const l1Index = Math.floor(cluster / mapping.l2Entries);
    for (;;) {
      const table = mapping.l2TableOf(cluster);
      if (table < 0 || (table > 0 && mapping.isFixed(table))) return -EIO;
      if (table > 0 && mapping.ownsTable(cluster)) return 0;
      if (!this.#busy.has(l1Index)) break;
      yield this.#done;
    }
    this.#busy.add(l1Index);
    try {
      return yield* this.#make(io, l1Index, mapping.l2TableOf(cluster));
    } finally {
      this.#busy.delete(l1Index);
      this.#done.wakeAll();
    }
  }

  *#make(io: Io, l1Index: number, old: number): Coroutine {
    const { clusterSize, file } = this.#store;
    const run: Run = { cluster: 0, count: 0, slot: -1, fresh: false };
    const failure = yield* this.#allocator.allocate(io, 1, run);
    if (failure < 0) return failure;
    const table = run.cluster * clusterSize;
    const filled = old === 0 ? yield* this.#zero(io, table) : yield* this.#copy(io, old, table);
    const counted = yield* this.#allocator.settleRun(io, run);
    if (filled < 0) {
      this.#release(run.cluster, 1);
      return filled;
    }
    if (counted < 0) return counted;
    this.#store.extend(file, table + clusterSize);
    // A fresh table reads zeros anyhow, which is what an empty one is.
    const durable = run.fresh && old === 0 ? 0 : yield* this.#store.barrier(io);
    if (durable < 0) return durable;
    const linked = yield* this.#link(io, l1Index, table);
    if (linked < 0) return linked;
    this.#store.mapping.known.add(run.cluster);
    if (old !== 0) this.letGo(old);
    return 0;
  }

  /** No L1 entry leads to the table any more. */
  letGo(table: number): void {
    const cluster = table / this.#store.clusterSize;
    this.#store.mapping.known.delete(cluster);
    this.#release(cluster, 1);
  }

  *#zero(io: Io, table: number): Coroutine {
    const { clusterSize, file } = this.#store;
    for (let at = 0; at < clusterSize; at += ZEROES_MAX) {
      io.writeZeroes(file, table + at, Math.min(ZEROES_MAX, clusterSize - at));
    }
    return yield;
  }

  /**
   * What two tables show belongs to neither alone, so bit 63 of every entry goes. A data file's
   * clusters have one table, and there the bit stands for an offset that is 0.
   */
  *#copy(io: Io, from: number, to: number): Coroutine {
    const { clusterSize, file, mapping } = this.#store;
    const workspace = yield* this.#workspaces.acquire();
    try {
      io.readMeta(file, from, workspace.address, clusterSize);
      const failure = yield;
      if (failure < 0) return failure;
      const end = mapping.external ? 0 : clusterSize;
      for (let at = 0; at < end; at += mapping.entrySize) workspace.bytes[at]! &= 0x7f;
      io.writeMeta(file, to, workspace.address, clusterSize);
      return yield;
    } finally {
      this.#workspaces.release(workspace);
    }
  }

  *#link(io: Io, l1Index: number, table: number): Coroutine {
    yield* this.l1Mutex.enter();
    try {
      return yield* this.changeL1(io, l1Index * 8, (view, at) => {
        putOffset(view, at, table);
        view.setUint32(at, view.getUint32(at) | q.HIGH_COPIED);
      });
    } finally {
      this.l1Mutex.leave();
    }
  }

  /**
   * Changes the sector of the L1 table that has byte `at` of it; for whoever holds the mutex.
   * Memory follows the file: nobody relies on an entry that a killed server would lose.
   */
  *changeL1(io: Io, at: number, change: (sector: DataView, within: number) => void): Coroutine {
    const { mapping, header } = this.#store;
    const from = at - (at % q.SECTOR);
    const length = Math.min(q.SECTOR, mapping.l1.byteLength - from);
    const l1 = new Uint8Array(mapping.l1.buffer, mapping.l1.byteOffset + from, length);
    this.#scratchBytes.set(l1);
    change(this.#scratchView, at - from);
    const failure = yield* this.#store.writeMeta(io, header.l1Offset + from, this.#scratch, length);
    if (failure === 0) l1.set(this.#scratchBytes.subarray(0, length));
    return failure;
  }
}
