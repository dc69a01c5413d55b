/** Entries of L2 tables: how they are set, and how they reach the file together. */

import { EIO } from "../../src/target/file_io.ts";
import type { Coroutine, Io } from "../../src/target/target.ts";
import type { Release } from "./allocate.ts";
import { compressedPlace } from "./compressed.ts";
import * as q from "./format.ts";
import type { Store } from "./store.ts";
import { DIRTY } from "./table_cache.ts";
import { settle, writeBack } from "./table_io.ts";

/** An entry as two words, and the two of its subclusters. */
export interface Entry {
  high: number;
  low: number;
  zero: number;
  allocated: number;
}

/** The entry of a cluster that is ours alone. */
export function ownedEntry(host: number, zero: number, allocated: number): Entry {
  const high = (Math.floor(host / q.TWO_32) | q.HIGH_COPIED) >>> 0;
  return { high, low: host % q.TWO_32, zero, allocated };
}

export class Links {
  readonly #store: Store;
  readonly #release: Release;

  constructor(store: Store, release: Release) {
    this.#store = store;
    this.#release = release;
  }

  get(slot: number, cluster: number): Entry {
    const { mapping, cache } = this.#store;
    const at = mapping.entryAt(slot, cluster);
    return {
      high: cache.view.getUint32(at),
      low: cache.view.getUint32(at + 4),
      zero: mapping.extended ? cache.view.getUint32(at + 8) : 0,
      allocated: mapping.extended ? cache.view.getUint32(at + 12) : 0,
    };
  }

  /**
   * Gives `count` neighbouring clusters new entries, all in the pinned slice `slot`, and returns
   * when the file has them. Clusters that no entry shows any more are released. 0 or -errno.
   */
  *set(
    io: Io,
    slot: number,
    first: number,
    count: number,
    entryOf: (cluster: number, old: Entry) => Entry,
  ): Coroutine {
    const { cache } = this.#store;
    yield* settle(cache, slot);
    const gone: Entry[] = [];
    for (let cluster = first; cluster < first + count; cluster++) {
      const old = this.get(slot, cluster);
      const entry = entryOf(cluster, old);
      this.#put(slot, cluster, entry);
      if (hostOf(old) !== hostOf(entry) || isCompressed(old)) gone.push(old);
    }
    cache.state[slot]! |= DIRTY;
    yield this.#store.turn;
    const failure = yield* this.writeBack(io, slot, first);
    if (failure === 0) for (const old of gone) this.#letGo(old);
    return failure;
  }

  *writeBack(io: Io, slot: number, cluster: number): Coroutine {
    const { mapping, cache, file } = this.#store;
    if (this.#store.fenced) return -EIO;
    const offset = mapping.sliceOffset(mapping.l2TableOf(cluster), cluster);
    const failure = yield* writeBack(cache, io, slot, file, offset, mapping.sliceSize);
    if (failure < 0) this.#store.fenceUnwritten("an L2 table", failure);
    return failure;
  }

  #put(slot: number, cluster: number, entry: Entry): void {
    const { mapping, cache } = this.#store;
    const at = mapping.entryAt(slot, cluster);
    cache.view.setUint32(at, entry.high);
    cache.view.setUint32(at + 4, entry.low);
    if (!mapping.extended) return;
    cache.view.setUint32(at + 8, entry.zero);
    cache.view.setUint32(at + 12, entry.allocated);
  }

  #letGo(old: Entry): void {
    const { clusterSize, mapping } = this.#store;
    if (mapping.external) return;
    if (!isCompressed(old)) {
      if (hostOf(old) !== 0) this.#release(hostOf(old) / clusterSize, 1);
      return;
    }
    // It may share clusters with others and reach into the next: each has a count for it.
    const { offset, length } = compressedPlace(old.high, old.low, mapping.geometry.clusterBits);
    const first = Math.floor(offset / clusterSize);
    const last = Math.floor((offset + length - 1) / clusterSize);
    this.#release(first, last - first + 1);
  }
}

export function isCompressed(entry: Entry): boolean {
  return (entry.high & q.HIGH_COMPRESSED) !== 0;
}

/** The host offset in a standard entry. */
export function hostOf(entry: Entry): number {
  return (entry.high & q.HIGH_OFFSET) * q.TWO_32 + ((entry.low & q.LOW_OFFSET) >>> 0);
}
