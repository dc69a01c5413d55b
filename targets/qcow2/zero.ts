/** DISCARD and WRITE_ZEROES: by entries where whole clusters are meant, by bytes where not. */

import { EIO } from "../../src/target/file_io.ts";
import { type Coroutine, type Io, PIECES_MAX, UNSUPPORTED } from "../../src/target/target.ts";
import { type Entry, hostOf, isCompressed } from "./link.ts";
import { BAD, DATA, UNALLOCATED } from "./mapping.ts";
import { REFUSED, wayOf } from "./plan.ts";
import * as q from "./format.ts";
import { type Layer, loadTable } from "./read.ts";
import { DIRTY, MISS, WRITING } from "./table_cache.ts";
import { unpin } from "./table_io.ts";
import { NO_BYTES } from "./fill.ts";
import { type WriteParts, type Writes } from "./write.ts";

/** The guest has no use for it; it has to read zeros; and it has to keep its space as well. */
export const DISCARD = 1;
export const UNMAP = 2;
export const KEEP = 3;
/** The disk ends before it: what is there must not come back, what is not need not be hidden. */
export const FORGET = 4;

const ALL = 0xffffffff;
const NOTHING: Entry = { high: 0, low: 0, zero: 0, allocated: 0 };

export class Zeroes {
  readonly #parts: WriteParts;
  readonly #writes: Writes;
  readonly #top: Layer;
  readonly #hasBacking: boolean;
  /** Entries can say that a cluster reads zeros. */
  readonly #flags: boolean;

  constructor(parts: WriteParts, writes: Writes, top: Layer) {
    this.#parts = parts;
    this.#writes = writes;
    this.#top = top;
    this.#hasBacking = top.backing !== undefined;
    const { mapping } = parts.store;
    this.#flags = mapping.zeroFlags || mapping.extended;
  }

  /** Of the request's bytes, or of others. */
  *run(io: Io, way: number, begin = io.offset, end = begin + io.length): Coroutine {
    const { clusterSize, mapping } = this.#parts.store;
    if (mapping.external) return yield* this.#inDataFile(io, begin, end, way);
    const first = Math.ceil(begin / clusterSize);
    if (first >= this.#lastOf(end)) return way === DISCARD ? 0 : yield* this.#bytes(io, begin, end);
    let failure = 0;
    if (way !== DISCARD) failure = yield* this.#bytes(io, begin, first * clusterSize);
    let cluster = first;
    while (cluster < this.#lastOf(end) && failure >= 0) {
      failure = yield* this.#clusters(io, cluster, end, way);
      cluster += failure;
    }
    if (failure < 0) return failure;
    return way === DISCARD ? 0 : yield* this.#bytes(io, cluster * clusterSize, end);
  }

  /**
   * The first cluster that is not meant as a whole. The disk may end inside of one, which is then:
   * until it grows, and that may be meanwhile.
   */
  #lastOf(end: number): number {
    const { clusterSize } = this.#parts.store;
    return Math.floor((end >= this.#top.size ? end + clusterSize - 1 : end) / clusterSize);
  }

  /** Zeros as data, where there is something else. */
  *#bytes(io: Io, begin: number, end: number): Coroutine {
    if (begin >= end) return 0;
    const { reader, mapping, cache } = this.#parts.store;
    if (mapping.mapCached(begin, end - begin) === MISS) {
      const slot = yield* loadTable(cache, io, mapping, begin);
      if (slot < 0) return slot;
    }
    if (reader.isZero(this.#top, begin, end - begin)) return yield* this.#settled(io, begin);
    return yield* this.#writes.write(io, begin, NO_BYTES, end - begin);
  }

  /** Zeros that an entry shows which is still on its way: a killed server would bring back data. */
  *#settled(io: Io, begin: number): Coroutine {
    const { mapping, cache, clusterSize } = this.#parts.store;
    const cluster = Math.floor(begin / clusterSize);
    if (mapping.l2TableOf(cluster) <= 0) return 0;
    const slot = yield* this.#writes.pinTable(io, cluster);
    if (slot < 0) return slot;
    try {
      if ((cache.state[slot]! & (DIRTY | WRITING)) === 0) return 0;
      return yield* this.#parts.links.writeBack(io, slot, cluster);
    } finally {
      unpin(cache, slot);
    }
  }

  /**
   * Whole clusters up to byte `upTo`, as far as one slice goes. Answers how many were done: none
   * when it turned out that the disk has grown; or -errno.
   */
  *#clusters(io: Io, first: number, upTo: number, way: number): Coroutine {
    const { mapping, clusterSize } = this.#parts.store;
    const sliceEnd = first - (first % mapping.sliceEntries) + mapping.sliceEntries;
    const count = Math.min(this.#lastOf(upTo), sliceEnd) - first;
    const shows = this.#hasBacking && way !== DISCARD;
    if (mapping.l2TableOf(first) === 0 && !shows) return count;
    if (!this.#flags && (this.#hasBacking || way === KEEP)) {
      // Version 2 cannot say "zero": without an entry the backing file would show.
      if (way === DISCARD) return count;
      const begin = first * clusterSize;
      const end = Math.min(begin + count * clusterSize, upTo);
      const failure = yield* this.#bytes(io, begin, end);
      return failure < 0 ? failure : count;
    }
    const lock = yield* this.#parts.locks.lock(first, first + count - 1);
    try {
      const still = Math.min(count, this.#lastOf(upTo) - first);
      if (still <= 0) return 0;
      const failure = yield* this.#change(io, first, still, way);
      return failure < 0 ? failure : still;
    } finally {
      this.#parts.locks.unlock(lock);
    }
  }

  *#change(io: Io, first: number, count: number, way: number): Coroutine {
    const { store, tables, links } = this.#parts;
    if (store.fenced) return -EIO;
    const owned = yield* tables.own(io, first);
    if (owned < 0) return owned;
    const slot = yield* this.#writes.pinTable(io, first);
    if (slot < 0) return slot;
    try {
      let from = first + count;
      let to = first;
      for (let cluster = first; cluster < first + count; cluster++) {
        if (wayOf(store.mapping, slot, cluster, 0) === REFUSED) return -EIO;
        const old = links.get(slot, cluster);
        if (same(old, this.#entryAfter(old, way))) continue;
        from = Math.min(from, cluster);
        to = cluster + 1;
      }
      if (from >= to) return 0;
      const entryOf = (_: number, old: Entry): Entry => this.#entryAfter(old, way);
      return yield* links.set(io, slot, from, to - from, entryOf);
    } finally {
      unpin(store.cache, slot);
    }
  }

  #entryAfter(old: Entry, way: number): Entry {
    const { extended } = this.#parts.store.mapping;
    const nothing = same(old, NOTHING);
    if (nothing && (way === DISCARD || !this.#hasBacking)) return old;
    const owned = old.high >>> 31 === 1 && hostOf(old) !== 0 && !isCompressed(old);
    if (way === KEEP && owned) {
      if (extended) return { ...old, zero: ALL, allocated: 0 };
      return { ...old, low: (old.low | q.LOW_ZERO) >>> 0 };
    }
    if (!this.#hasBacking) return NOTHING;
    if (extended) return { ...NOTHING, zero: ALL };
    return { ...NOTHING, low: q.LOW_ZERO };
  }

  /** Where data stands at its guest offset, its bytes can be zeroed as they are. */
  *#inDataFile(io: Io, begin: number, end: number, way: number): Coroutine {
    const { mapping, cache, dataFile } = this.#parts.store;
    let pieces = 0;
    for (let at = begin; at < end;) {
      const kind = mapping.mapCached(at, end - at);
      const { host, length } = mapping;
      const covered = this.#hasBacking && way !== DISCARD && this.#isCovered(kind, way);
      const waits = kind === MISS || kind === BAD || covered;
      if (pieces > 0 && (waits || pieces === PIECES_MAX)) {
        const failure = yield* this.#punched(io, yield, begin, at, way);
        if (failure < 0) return failure;
        pieces = 0;
        begin = at;
        continue;
      }
      if (kind === MISS) {
        const slot = yield* loadTable(cache, io, mapping, at);
        if (slot < 0) return slot;
        continue;
      }
      if (kind === BAD && way !== DISCARD && way !== FORGET) return -EIO;
      if (covered) {
        const failure = yield* this.#writes.write(io, at, NO_BYTES, length);
        if (failure < 0) return failure;
        begin = at + length;
      } else if (kind === DATA) {
        if (way === KEEP) io.zeroRange(dataFile, host, length);
        else io.punchHole(dataFile, host, length);
        pieces++;
      }
      at += length;
    }
    return pieces === 0 ? 0 : yield* this.#punched(io, yield, begin, end, way);
  }

  /** The backing file shows here, or would again if the server were killed now. */
  #isCovered(kind: number, way: number): boolean {
    const { mapping, cache } = this.#parts.store;
    if (kind !== DATA) return kind === UNALLOCATED && way !== FORGET;
    return (cache.state[mapping.slot]! & (DIRTY | WRITING)) !== 0;
  }

  /** What a file system cannot do is done by hand. */
  *#punched(io: Io, failure: number, begin: number, end: number, way: number): Coroutine {
    if (failure !== UNSUPPORTED) return failure;
    return way === DISCARD ? 0 : yield* this.#writes.write(io, begin, NO_BYTES, end - begin);
  }
}

function same(one: Entry, other: Entry): boolean {
  return (
    one.high === other.high &&
    one.low === other.low &&
    one.zero === other.zero &&
    one.allocated === other.allocated
  );
}
