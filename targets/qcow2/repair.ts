/** Putting refcounts right: leaks given back, counts that are too low raised, or all built anew. */

import type { SyncFile } from "../../src/target/file_io.ts";
import { beginRepair } from "./begin.ts";
import { checkImage, type Progress } from "./check.ts";
import { storedCounts } from "./compare.ts";
import type { Findings } from "./findings.ts";
import { correctFlags } from "./flags.ts";
import * as q from "./format.ts";
import { type Header, headerToCheck, ImageError } from "./header.ts";
import { putOffset, blockOffset } from "./mapping.ts";
import { getRefcount, setRefcount } from "./refcount.ts";

export type Repair = "leaks" | "all";

/**
 * Repairs, and checks again: what is found then is what is left. Throws SysError.
 *
 * No count is lowered by a wrong one: not while a table could not be followed, whose clusters would
 * become free, nor by what stands in the place of a refcount block and may be data.
 */
export function repairImage(
  image: SyncFile,
  header: Header,
  what: Repair,
  progress?: Progress,
): Findings {
  const found = checkImage(image, header, progress);
  const sound = areBlocksSound(image, header, found);
  const canLower = sound && !found.incomplete;
  const canSet = sound && allCounted(image, header, found);
  if (what === "leaks" ? !canLower : found.incomplete && !canSet) return found;
  beginRepair(image, header);
  if (canLower) lowerCounts(image, header, found);
  if (what === "leaks") return afterLeaks(image, header, found, progress);
  if (canSet) raiseCounts(image, header, found);
  else rebuild(image, header, found);
  image.sync();
  if (found.incomplete) return checkImage(image, header, progress);
  // Afterwards: bit 63 says that a count is one, so the count comes first.
  const now = headerToCheck(image);
  const { corruptions, counts } = checkImage(image, now);
  if (corruptions > 0) correctFlags(image, now, counts);
  image.sync();
  return lastLook(image, now, progress);
}

/** A cluster of which a leak was taken may have one user left, whose entry is to say so. */
function afterLeaks(
  image: SyncFile,
  header: Header,
  found: Findings,
  progress?: Progress,
): Findings {
  if (found.corruptions === found.wrongFlags) correctFlags(image, header, found.counts);
  image.sync();
  return lastLook(image, header, progress);
}

function lastLook(image: SyncFile, header: Header, progress?: Progress): Findings {
  const left = checkImage(image, header, progress);
  if (left.corruptions === 0) clearMarks(image, header);
  return left;
}

/** More would take over 100 MiB and 0.3 s; so many clusters are 32 GiB, as they usually are. */
const COUNTED_MAX = 2 ** 19;

/**
 * At the end of a disk one of whose servers was killed: gives back what that had taken and not used
 * yet. Changes nothing where something else is wrong, too, and nothing in a large image. Throws
 * SysError.
 */
export function giveBackLeaks(image: SyncFile): void {
  const header = headerToCheck(image);
  if (image.size() / header.clusterSize > COUNTED_MAX) return;
  const found = checkImage(image, header);
  if (found.leaks === 0 || found.corruptions > 0) return;
  if (!areBlocksSound(image, header, found)) return;
  beginRepair(image, header);
  lowerCounts(image, header, found);
  correctFlags(image, header, found.counts);
  image.sync();
}

/** Where each stored count is changed: one block at a time. */
class StoredCounts {
  readonly #image: SyncFile;
  readonly #header: Header;
  readonly #table: DataView;
  readonly #entries: number;
  readonly #block: Uint8Array;
  #offset = 0;
  #changed = false;

  constructor(image: SyncFile, header: Header) {
    this.#image = image;
    this.#header = header;
    const bytes = new Uint8Array(header.refcountTableClusters * header.clusterSize);
    image.read(bytes, header.refcountTableOffset);
    this.#table = new DataView(bytes.buffer);
    this.#entries = (header.clusterSize * 8) / 2 ** header.refcountOrder;
    this.#block = new Uint8Array(header.clusterSize);
  }

  /** Where the table leads; -1 where that cannot be. */
  *blocks(): Generator<number> {
    for (let at = 0; at < this.#table.byteLength; at += 8) {
      const block = blockOffset(this.#table, at, this.#header.clusterSize);
      if (block !== 0) yield block;
    }
  }

  blockOf(cluster: number): number {
    const at = Math.floor(cluster / this.#entries) * 8;
    if (at >= this.#table.byteLength) return 0;
    return blockOffset(this.#table, at, this.#header.clusterSize);
  }

  get(cluster: number): number {
    const view = this.#load(cluster);
    return getRefcount(view, 0, cluster % this.#entries, this.#header.refcountOrder);
  }

  set(cluster: number, count: number): void {
    const view = this.#load(cluster);
    this.#changed = true;
    setRefcount(view, 0, cluster % this.#entries, this.#header.refcountOrder, count);
  }

  #load(cluster: number): DataView {
    const block = this.blockOf(cluster);
    if (block !== this.#offset) {
      this.write();
      this.#offset = block;
      this.#block.fill(0);
      this.#image.read(this.#block, block);
    }
    return new DataView(this.#block.buffer);
  }

  write(): void {
    if (this.#changed) this.#image.write(this.#block, this.#offset);
    this.#changed = false;
  }
}

function lowerCounts(image: SyncFile, header: Header, found: Findings): void {
  const stored = new StoredCounts(image, header);
  for (const { cluster, count } of storedCounts(image, header)) {
    const used = found.counts.get(cluster);
    if (count > used) stored.set(cluster, used);
  }
  stored.write();
  image.sync();
}

/** Nobody else uses what the refcount table shows. */
function areBlocksSound(image: SyncFile, header: Header, found: Findings): boolean {
  for (const block of new StoredCounts(image, header).blocks()) {
    if (block < 0 || found.counts.get(block / header.clusterSize) !== 1) return false;
  }
  return true;
}

/** Every cluster in use has a block that counts it. */
function allCounted(image: SyncFile, header: Header, found: Findings): boolean {
  const stored = new StoredCounts(image, header);
  for (const [cluster] of found.counts.entries()) {
    const block = stored.blockOf(cluster);
    if (block <= 0 || block + header.clusterSize > image.size()) return false;
  }
  return true;
}

/**
 * Where a table could not be followed, what is counted too high may be right. A cluster with more
 * users than can be counted stays wrong.
 */
function raiseCounts(image: SyncFile, header: Header, found: Findings): void {
  const stored = new StoredCounts(image, header);
  for (const [cluster, used] of found.counts.entries()) {
    if (fits(header, used) && stored.get(cluster) < used) stored.set(cluster, used);
  }
  stored.write();
}

const fits = (header: Header, used: number): boolean => used < 2 ** (2 ** header.refcountOrder);

function refuseTooMany(image: SyncFile, header: Header, cluster: number, used: number): void {
  if (fits(header, used)) return;
  const bits = 2 ** header.refcountOrder;
  throw new ImageError(
    image.path,
    `cluster ${cluster} has ${used} users, too many for ${bits} bits`,
  );
}

/**
 * New blocks and a new table behind all that is in use, which the header takes to at last. The old
 * ones are counted no more, and so they are free. A file grows by them; a block device cannot.
 */
function rebuild(image: SyncFile, header: Header, found: Findings): void {
  const { clusterSize, refcountOrder } = header;
  const entries = (clusterSize * 8) / 2 ** refcountOrder;
  const first = Number.isFinite(image.limit)
    ? clustersInUse(found)
    : Math.ceil(image.size() / clusterSize);
  let blocks = 0;
  let clusters = 0;
  for (let behind = -1; behind !== first + blocks + clusters;) {
    behind = first + blocks + clusters;
    blocks = Math.ceil(behind / entries);
    clusters = Math.ceil((blocks * 8) / clusterSize);
  }
  if (clusters * clusterSize > q.REFCOUNT_TABLE_BYTES_MAX) {
    throw new ImageError(image.path, "its refcount table would be larger than 8 MiB");
  }
  const old = oldStructures(image, header);
  const table = new Uint8Array(clusters * clusterSize);
  for (let index = 0; index < blocks; index++) {
    const block = new Uint8Array(clusterSize);
    const view = new DataView(block.buffer);
    for (let within = 0; within < entries; within++) {
      const cluster = index * entries + within;
      const ours = cluster >= first && cluster < first + blocks + clusters;
      const used = ours ? 1 : found.counts.get(cluster) - (old.get(cluster) ?? 0);
      if (used > 0) refuseTooMany(image, header, cluster, used);
      setRefcount(view, 0, within, refcountOrder, Math.max(0, used));
    }
    image.write(block, (first + index) * clusterSize);
    putOffset(new DataView(table.buffer), index * 8, (first + index) * clusterSize);
  }
  image.write(table, (first + blocks) * clusterSize);
  image.sync();
  const fields = new Uint8Array(12);
  putOffset(new DataView(fields.buffer), 0, (first + blocks) * clusterSize);
  new DataView(fields.buffer).setUint32(8, clusters);
  image.write(fields, q.REFCOUNT_TABLE_OFFSET_AT);
}

/** Up to the last one. */
function clustersInUse(found: Findings): number {
  let end = 0;
  for (const [cluster] of found.counts.entries()) end = cluster + 1;
  return end;
}

/** How often each cluster was counted for being part of the old table or one of its blocks. */
function oldStructures(image: SyncFile, header: Header): Map<number, number> {
  const { clusterSize, refcountTableOffset, refcountTableClusters } = header;
  const uses = new Map<number, number>();
  const add = (cluster: number): void => void uses.set(cluster, (uses.get(cluster) ?? 0) + 1);
  const first = refcountTableOffset / clusterSize;
  for (let index = 0; index < refcountTableClusters; index++) add(first + index);
  const bytes = new Uint8Array(refcountTableClusters * clusterSize);
  image.read(bytes, refcountTableOffset);
  for (let at = 0; at < bytes.length; at += 8) {
    const block = blockOffset(new DataView(bytes.buffer), at, clusterSize);
    if (block > 0 && block < image.size()) add(block / clusterSize);
  }
  return uses;
}

function clearMarks(image: SyncFile, header: Header): void {
  const marks = q.INCOMPATIBLE_DIRTY | q.INCOMPATIBLE_CORRUPT;
  if ((header.incompatible & marks) === 0) return;
  const word = new Uint8Array(4);
  new DataView(word.buffer).setUint32(0, header.incompatible & ~marks);
  image.write(word, q.INCOMPATIBLE_FEATURES_AT + 4);
  image.sync();
}
