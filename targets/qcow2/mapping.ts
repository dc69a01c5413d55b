// hot
/**
 * Guest offset → host offset, for one image of a chain.
 *
 * Sizes are powers of two. So on the way to a cluster that is there, what would be a division is a
 * multiplication, and a remainder a mask of bits: the remainder of a Number that is not a small
 * integer is a call into the runtime.
 */

import { PAGE_SIZE } from "../../src/target/memory.ts";
import * as q from "./format.ts";
import { KnownTables } from "./known_tables.ts";
import { keyOf, MISS, SLICE, SUSPECT, type TableCache } from "./table_cache.ts";

/** What stands at a guest offset. `MISS` (-1): the L2 table is not in memory. */
export const DATA = 1;
export const ZERO = 2;
/** Nothing: the backing file shows through. */
export const UNALLOCATED = 3;
export const COMPRESSED = 4;
/** An entry that cannot be right. */
export const BAD = 5;

/** How an image cuts its disk into clusters and tables; all derived from the header. */
export interface Geometry {
  clusterBits: number;
  clusterSize: number;
  size: number;
  l1Size: number;
  extendedL2: boolean;
  zeroFlags: boolean;
  externalData: boolean;
}

export class Mapping {
  readonly geometry: Geometry;
  readonly clusterSize: number;
  readonly extended: boolean;
  readonly external: boolean;
  readonly zeroFlags: boolean;
  readonly entrySize: number;
  /** Entries of one L2 table. */
  readonly l2Entries: number;
  readonly sliceSize: number;
  readonly sliceEntries: number;
  readonly #clustersPerByte: number;
  readonly #tablesPerCluster: number;
  /** The registered file that has the tables. */
  readonly file: number;
  /** And the one that has the data: the same, unless there is an external data file. */
  readonly dataFile: number;
  /** The data file once more, for direct IO of whole pages; itself where there is none. */
  directFile: number;
  l1: DataView;
  readonly cache: TableCache;
  /** Answers of `extentAt`, beside the kind. */
  host = 0;
  /** The low 32 bits of `host`. */
  hostLow = 0;
  length = 0;
  /** The cluster is ours alone: bit 63. */
  owned = false;
  /** The slot that it was read from. */
  slot = MISS;
  /** Where the file ends, up to a whole cluster: no data stands behind it. */
  dataEnd = 0;
  /** The header, the L1 table and the refcount table: begin and end, in turn. */
  readonly forbidden: Float64Array;
  /** All other tables, of an image that is open for writing. */
  known = new KnownTables();

  constructor(
    geometry: Geometry,
    file: number,
    dataFile: number,
    l1: DataView,
    cache: TableCache,
    forbidden: Float64Array,
  ) {
    this.forbidden = forbidden;
    this.geometry = geometry;
    this.clusterSize = geometry.clusterSize;
    this.extended = geometry.extendedL2;
    this.external = geometry.externalData;
    this.zeroFlags = geometry.zeroFlags && !geometry.extendedL2;
    this.entrySize = geometry.extendedL2 ? 16 : 8;
    this.l2Entries = geometry.clusterSize / this.entrySize;
    this.sliceSize = geometry.clusterSize < SLICE ? geometry.clusterSize : SLICE;
    this.sliceEntries = this.sliceSize / this.entrySize;
    this.#clustersPerByte = 1 / geometry.clusterSize;
    this.#tablesPerCluster = 1 / this.l2Entries;
    this.file = file;
    this.dataFile = dataFile;
    this.directFile = dataFile;
    this.l1 = l1;
    this.cache = cache;
  }

  /** Offset of the L2 table in charge, 0 for none, -1 for one that cannot be. */
  l2TableOf(clusterIndex: number): number {
    const l1Index = Math.floor(clusterIndex * this.#tablesPerCluster);
    return tableOffset(this.l1, l1Index * 8, this.clusterSize);
  }

  /** The L2 table in charge is ours alone. */
  ownsTable(clusterIndex: number): boolean {
    const l1Index = Math.floor(clusterIndex / this.l2Entries);
    return (this.l1.getUint32(l1Index * 8) & q.HIGH_COPIED) !== 0;
  }

  /** Where in its file the slice with this cluster's entry stands; `table` from `l2TableOf`. */
  sliceOffset(table: number, clusterIndex: number): number {
    const index = clusterIndex & (this.l2Entries - 1);
    return table + (index - (index & (this.sliceEntries - 1))) * this.entrySize;
  }

  /** Position in the cache's view of a cluster's entry, given the slot of its slice. */
  entryAt(slot: number, clusterIndex: number): number {
    return slot * SLICE + (clusterIndex & (this.sliceEntries - 1)) * this.entrySize;
  }

  /**
   * What stands at `guest`, for `length` bytes at the most, out of memory: a kind, and in the
   * members how far it goes. Merges neighbours of one kind inside a slice.
   */
  mapCached(guest: number, length: number): number {
    const cluster = Math.floor(guest * this.#clustersPerByte);
    const table = this.l2TableOf(cluster);
    if (table <= 0) return this.#withoutTable(table, guest, cluster, length);
    const slot = this.cache.find(keyOf(this.file, this.sliceOffset(table, cluster)));
    if (slot === MISS) return MISS;
    return this.extentAt(slot, guest, length);
  }

  #withoutTable(table: number, guest: number, cluster: number, length: number): number {
    const covered = (cluster - (cluster % this.l2Entries) + this.l2Entries) * this.clusterSize;
    this.length = covered - guest < length ? covered - guest : length;
    return table === 0 ? UNALLOCATED : BAD;
  }

  extentAt(slot: number, guest: number, length: number): number {
    this.slot = slot;
    let cluster = Math.floor(guest * this.#clustersPerByte);
    let within = (guest - cluster * this.clusterSize) | 0;
    const kind = this.unitAt(slot, cluster, within);
    const { host, hostLow } = this;
    const owned = this.owned;
    let found = this.length;
    const alone = kind === BAD || kind === COMPRESSED;
    const last = cluster - (cluster & (this.sliceEntries - 1)) + this.sliceEntries - 1;
    const wanted = alone ? 0 : length;
    while (found < wanted) {
      within += this.length;
      if (within >= this.clusterSize) {
        within = 0;
        cluster++;
      }
      if (cluster > last || this.unitAt(slot, cluster, within) !== kind) break;
      if (kind === DATA && (this.host !== host + found || this.owned !== owned)) break;
      found += this.length;
    }
    this.host = host;
    this.hostLow = hostLow;
    this.owned = owned;
    this.length = found < length ? found : length;
    return kind;
  }

  /** The unit that a mapping is made of, a cluster or a subcluster, from `within` to its end. */
  unitAt(slot: number, cluster: number, within: number): number {
    const at = this.entryAt(slot, cluster);
    const view = this.cache.view;
    const high = view.getInt32(at);
    const low = view.getInt32(at + 4);
    this.length = this.clusterSize - within;
    this.owned = high < 0;
    this.host = 0;
    this.hostLow = 0;
    if ((high & q.HIGH_COMPRESSED) !== 0) return this.external ? BAD : COMPRESSED;
    const offset = (high & q.HIGH_OFFSET) * q.TWO_32 + ((low & q.LOW_OFFSET) >>> 0);
    this.host = offset + within;
    this.hostLow = (low & q.LOW_OFFSET) + within;
    if ((this.cache.state[slot]! & SUSPECT) !== 0 && !this.entryFits(high, low, cluster)) {
      return BAD;
    }
    if (this.extended) return this.#subclusterAt(at, offset, within);
    if ((low & q.LOW_ZERO) !== 0) return ZERO;
    return offset === 0 && !(this.external && this.owned) ? UNALLOCATED : DATA;
  }

  #subclusterAt(at: number, offset: number, within: number): number {
    const size = this.clusterSize / q.SUBCLUSTERS;
    const bit = Math.floor(within / size);
    this.length = size - (within - bit * size);
    const allocated = (this.cache.view.getUint32(at + 12) >>> bit) & 1;
    const zero = (this.cache.view.getUint32(at + 8) >>> bit) & 1;
    if (allocated && zero) return BAD;
    if (zero) return ZERO;
    if (!allocated) return UNALLOCATED;
    return offset === 0 && !(this.external && this.owned) ? BAD : DATA;
  }

  /** Whether a standard entry can be right: reserved bits, alignment, inside the file. */
  entryFits(high: number, low: number, cluster: number): boolean {
    if ((high & q.HIGH_RESERVED) !== 0 || (low & q.LOW_RESERVED) !== 0) return false;
    // Extended entries have bits of their own for that; this one means nothing there.
    if ((low & q.LOW_ZERO) !== 0 && !this.zeroFlags && !this.extended) return false;
    const offset = (high & q.HIGH_OFFSET) * q.TWO_32 + ((low & q.LOW_OFFSET) >>> 0);
    if ((low & q.LOW_OFFSET & (this.clusterSize - 1)) !== 0) return false;
    if (this.external) {
      // Only where bit 63 is clear does 0 stand for "nothing": the data file has an offset 0.
      if (offset === 0 && (high & q.HIGH_COPIED) === 0) return true;
      return offset === cluster * this.clusterSize;
    }
    return offset === 0 || (offset < this.dataEnd && !this.isForbidden(offset));
  }

  /**
   * The file that a piece of data goes to. A page is moved directly as a whole or not at all, so
   * it never is in two hands at once: direct IO does not wait for a page that is being filled.
   * Of `host` the low bits decide, so `hostLow` will do.
   */
  fileFor(host: number, at: number, length: number): number {
    const isWhole = ((host | at | length) & (PAGE_SIZE - 1)) === 0;
    return isWhole ? this.directFile : this.dataFile;
  }

  /** Nothing new may stand there: a table does. */
  isForbidden(offset: number): boolean {
    return this.isFixed(offset) || this.known.has(Math.floor(offset * this.#clustersPerByte));
  }

  /** Nor may an L2 table that an entry leads to: it is the header, an L1 table and the like. */
  isFixed(offset: number): boolean {
    const ranges = this.forbidden;
    for (let at = 0; at < ranges.length; at += 2) {
      if (offset >= ranges[at]! && offset < ranges[at + 1]!) return true;
    }
    return this.known.isFixed(Math.floor(offset * this.#clustersPerByte));
  }

  /** Marks a slice that has just been loaded when an entry of it needs to be looked at. */
  inspect(slot: number): void {
    const view = this.cache.view;
    for (let index = 0; index < this.sliceEntries; index++) {
      const at = slot * SLICE + index * this.entrySize;
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      if ((high | low) === 0 || (high & q.HIGH_COMPRESSED) !== 0) continue;
      // Where it belongs is not known here, so an external entry is looked at with each use.
      const fits = !this.external && this.entryFits(high, low, 0);
      if (!fits) this.cache.state[slot]! |= SUSPECT;
    }
  }
}

/** The offset in an L1 table entry at `at`: 0 for none, -1 for what cannot be. */
export function tableOffset(table: DataView, at: number, clusterSize: number): number {
  const entry = table.getInt32(at);
  const high = entry & ~q.HIGH_COPIED;
  const low = table.getInt32(at + 4);
  if (high > q.HIGH_OFFSET || (low & (~q.LOW_OFFSET | (clusterSize - 1))) !== 0) return MISS;
  // Bit 63 of an entry without an offset: something was there.
  if ((high | low) === 0 && entry !== 0) return MISS;
  return high * q.TWO_32 + (low >>> 0);
}

/** The same of an entry of the refcount table, where bit 63 means nothing and has to be 0. */
export function blockOffset(table: DataView, at: number, clusterSize: number): number {
  return table.getInt32(at) < 0 ? MISS : tableOffset(table, at, clusterSize);
}

/** An offset, or any other 64-bit number, as the format has them; inexact from 2^53 on. */
export function getOffset(view: DataView, at: number): number {
  return view.getUint32(at) * q.TWO_32 + view.getUint32(at + 4);
}

/** Writes an offset, or any other 64-bit number, as the format has them. */
export function putOffset(view: DataView, at: number, offset: number): void {
  view.setUint32(at, Math.floor(offset / q.TWO_32));
  view.setUint32(at + 4, offset);
}
