/** Writing data: in place where the cluster is ours, into new clusters where it is not. */

import { EIO } from "../../src/target/file_io.ts";
import { type Coroutine, type Io, PIECES_MAX, ZEROES_MAX } from "../../src/target/target.ts";
import type { Allocator, Release, Run } from "./allocate.ts";
import { type Fill, NO_BYTES } from "./fill.ts";
import { SECTOR } from "./format.ts";
import { hostOf, type Links, ownedEntry } from "./link.ts";
import type { RangeLocks } from "./locks.ts";
import { DATA } from "./mapping.ts";
import { bitsAfter, fillSpans, IN_PLACE, NEW, REFUSED, wayOf } from "./plan.ts";
import type { Layer } from "./read.ts";
import type { Store } from "./store.ts";
import { DIRTY, MISS, WRITING } from "./table_cache.ts";
import { pinSlice, unpin } from "./table_io.ts";
import type { Tables } from "./tables.ts";

export interface WriteParts {
  store: Store;
  top: Layer;
  allocator: Allocator;
  tables: Tables;
  links: Links;
  locks: RangeLocks;
  fill: Fill;
  release: Release;
}

/** Neighbouring guest clusters that go to neighbouring host clusters. */
interface Group {
  first: number;
  count: number;
  host: number;
  way: number;
  fresh: boolean;
}

export class Writes {
  readonly #parts: WriteParts;
  readonly #store: Store;

  constructor(parts: WriteParts) {
    this.#parts = parts;
    this.#store = parts.store;
  }

  /** `length` bytes of the request from `at` on (or zeros) to `guest`. 0 or -errno. */
  *write(io: Io, guest: number, at: number, length: number): Coroutine {
    for (let done = 0; done < length;) {
      const from = at === NO_BYTES ? NO_BYTES : at + done;
      const count = yield* this.#part(io, guest + done, from, length - done);
      if (count < 0) return count;
      done += count;
    }
    return 0;
  }

  /** As much as can be done in one go. Answers the bytes done, or -errno. */
  *#part(io: Io, guest: number, at: number, length: number): Coroutine {
    const { mapping, clusterSize, cache } = this.#store;
    const { locks, tables } = this.#parts;
    const first = Math.floor(guest / clusterSize);
    const sliceEnd = first - (first % mapping.sliceEntries) + mapping.sliceEntries;
    const most = Math.min(length, sliceEnd * clusterSize - guest);
    const lock = yield* locks.lock(first, Math.floor((guest + most - 1) / clusterSize));
    let slot = MISS;
    try {
      if (this.#store.fenced) return -EIO;
      const failure = yield* tables.own(io, first);
      if (failure < 0) return failure;
      slot = yield* this.pinTable(io, first);
      if (slot < 0) return slot;
      return yield* this.#onto(io, slot, guest, at, most);
    } finally {
      if (slot >= 0) unpin(cache, slot);
      locks.unlock(lock);
    }
  }

  /** The slot of the slice with a cluster's entry, pinned; or -errno. */
  pinTable(io: Io, cluster: number): Coroutine {
    const { mapping, cache, file } = this.#store;
    const offset = mapping.sliceOffset(mapping.l2TableOf(cluster), cluster);
    const inspect = (slot: number): void => mapping.inspect(slot);
    return pinSlice(cache, io, file, offset, mapping.sliceSize, inspect);
  }

  *#onto(io: Io, slot: number, guest: number, at: number, length: number): Coroutine {
    const { mapping, clusterSize } = this.#store;
    const cluster = Math.floor(guest / clusterSize);
    const way = wayOf(mapping, slot, cluster, guest - cluster * clusterSize);
    if (way === REFUSED) return -EIO;
    if (way === IN_PLACE) return yield* this.#inPlace(io, slot, guest, at, length);
    const last = Math.floor((guest + length - 1) / clusterSize);
    const group = this.#group(slot, cluster, last, way);
    if (way !== NEW) return yield* this.#link(io, slot, group, guest, at, length, undefined);
    const run: Run = { cluster: 0, count: 0, slot: MISS, fresh: false };
    const failure = yield* this.#parts.allocator.allocate(io, group.count, run);
    if (failure < 0) return failure;
    group.count = run.count;
    group.host = run.cluster * clusterSize;
    group.fresh = run.fresh;
    return yield* this.#link(io, slot, group, guest, at, length, run);
  }

  *#inPlace(io: Io, slot: number, guest: number, at: number, length: number): Coroutine {
    const { mapping, cache, dataFile } = this.#store;
    const { fill } = this.#parts;
    let done = 0;
    let end = 0;
    for (let pieces = 0; done < length && pieces < PIECES_MAX; pieces++) {
      const kind = mapping.extentAt(slot, guest + done, length - done);
      if (kind !== DATA || !(mapping.owned || mapping.external)) break;
      const count = at === NO_BYTES ? Math.min(ZEROES_MAX, mapping.length) : mapping.length;
      const { host } = mapping;
      end = Math.max(end, host + count);
      done += count;
      if (fill.isCiphered) {
        const from = at === NO_BYTES ? NO_BYTES : at + done - count;
        const ciphered = yield* fill.ciphered(io, host, from, count);
        if (ciphered < 0) return ciphered;
        break; // what follows may have changed meanwhile
      }
      this.#putBytes(io, host, at, done - count, count);
    }
    const failure = fill.isCiphered ? 0 : yield;
    if (failure < 0) return failure;
    this.#store.extend(dataFile, end);
    // The entry may be so new that the file does not have it yet.
    if ((cache.state[slot]! & (DIRTY | WRITING)) !== 0) {
      const cluster = Math.floor(guest / this.#store.clusterSize);
      const written = yield* this.#parts.links.writeBack(io, slot, cluster);
      if (written < 0) return written;
    }
    return done;
  }

  #putBytes(io: Io, host: number, at: number, done: number, length: number): void {
    const { mapping, dataFile } = this.#store;
    if (at === NO_BYTES) io.writeZeroes(dataFile, host, length);
    else io.writeFile(mapping.fileFor(host, at + done, length), host, at + done, length, false);
  }

  /** How far the way of the first cluster leads. */
  #group(slot: number, first: number, last: number, way: number): Group {
    const { mapping, clusterSize } = this.#store;
    const hostAt = (cluster: number): number => {
      if (mapping.external) return cluster * clusterSize;
      return hostOf(this.#parts.links.get(slot, cluster));
    };
    const group: Group = { first, count: 1, host: 0, way, fresh: false };
    if (way !== NEW) group.host = hostAt(first);
    for (let cluster = first + 1; cluster <= last; cluster++) {
      if (wayOf(mapping, slot, cluster, 0) !== way) break;
      const offset = (cluster - first) * clusterSize;
      if (way !== NEW && hostAt(cluster) !== group.host + offset) break;
      group.count++;
    }
    return group;
  }

  /** Data, counts, barrier, entries. Answers the bytes done, or -errno. */
  *#link(
    io: Io,
    slot: number,
    group: Group,
    guest: number,
    at: number,
    length: number,
    run: Run | undefined,
  ): Coroutine {
    const { clusterSize, mapping } = this.#store;
    const { allocator, links, release } = this.#parts;
    const begin = group.first * clusterSize;
    const end = Math.min(guest + length, begin + group.count * clusterSize);
    const bare = this.#isBare(group);
    const filled = yield* this.#bring(io, slot, group, guest, at, end);
    const counted = run === undefined ? 0 : yield* allocator.settleRun(io, run);
    if (counted < 0) return counted;
    let failure = filled;
    if (failure === 0 && !bare) failure = yield* this.#store.barrier(io);
    if (failure < 0) {
      if (run !== undefined) release(run.cluster, run.count);
      return failure;
    }
    failure = yield* links.set(io, slot, group.first, group.count, (cluster) => {
      const host = group.host + (cluster - group.first) * clusterSize;
      if (!mapping.extended) return ownedEntry(host, 0, 0);
      const from = Math.max(guest, cluster * clusterSize) - cluster * clusterSize;
      const to = Math.min(end - cluster * clusterSize, clusterSize);
      const bits = bitsAfter(mapping, mapping.entryAt(slot, cluster), from, to);
      return ownedEntry(host, bits.zero, bits.allocated);
    });
    return failure < 0 ? failure : end - guest;
  }

  /**
   * Zeros were there and zeros are there, until the data comes: whatever a power cut leaves of it
   * is old or new, so the entries need not wait until the data is durable.
   */
  #isBare(group: Group): boolean {
    if (!group.fresh || this.#parts.fill.isCiphered) return false;
    const { clusterSize, reader } = this.#store;
    const begin = group.first * clusterSize;
    return reader.isZero(this.#parts.top, begin, group.count * clusterSize);
  }

  /** Puts all that the group's clusters have to hold where it belongs. 0 or -errno. */
  *#bring(io: Io, slot: number, group: Group, guest: number, at: number, end: number): Coroutine {
    const { clusterSize, dataFile } = this.#store;
    const begin = group.first * clusterSize;
    const hostEnd = group.host + group.count * clusterSize;
    const last = group.first + group.count - 1;
    let reached = group.host + (end - begin);
    for (const cluster of last === group.first ? [last] : [group.first, last]) {
      const tail = yield* this.#fillCluster(io, slot, group, cluster, guest, end);
      if (tail < 0) return tail;
      const host = group.host + (cluster - group.first) * clusterSize;
      reached = Math.max(reached, host + tail);
    }
    const host = group.host + (guest - begin);
    if (at === NO_BYTES) {
      const zeroed = yield* this.#parts.fill.zeroes(io, host, end - guest);
      if (zeroed < 0) return zeroed;
    } else if (this.#parts.fill.isCiphered) {
      const ciphered = yield* this.#parts.fill.ciphered(io, host, at, end - guest);
      if (ciphered < 0) return ciphered;
    } else this.#putBytes(io, host, at, 0, end - guest);
    // What lies between is a hole that reads zeros, once the file is as long as that.
    const short = reached < hostEnd && this.#store.end(dataFile) < hostEnd;
    if (short) io.writeZeroes(dataFile, hostEnd - SECTOR, SECTOR);
    const failure = yield;
    if (failure < 0) return failure;
    this.#store.extend(dataFile, short ? hostEnd : reached);
    return 0;
  }

  #fillCluster(
    io: Io,
    slot: number,
    group: Group,
    cluster: number,
    guest: number,
    end: number,
  ): Coroutine {
    const { clusterSize, mapping } = this.#store;
    const base = cluster * clusterSize;
    const from = Math.max(guest - base, 0);
    const to = Math.min(end - base, clusterSize);
    const entry = mapping.entryAt(slot, cluster);
    const spans = fillSpans(mapping, entry, group.way, from, to);
    const host = group.host + (cluster - group.first) * clusterSize;
    return this.#parts.fill.spans(io, base, host, spans, group.fresh);
  }
}
