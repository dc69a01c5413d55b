/**
 * Consistency of an image: who uses each cluster, compared with what the refcounts say.
 *
 * Every table is read once, however many point to it, so that the work is bounded by the size of
 * the file.
 */

import type { SyncFile } from "../../src/target/file_io.ts";
import { compressedPlace } from "./compressed.ts";
import { bitmapClusters, readBitmaps } from "./bitmaps.ts";
import { compareCounts, readCounts } from "./compare.ts";
import type { Counts } from "./counts.ts";
import { corrupt, type Findings, MESSAGES_MAX, nothingFound, say } from "./findings.ts";
import { hasNoData } from "./flags.ts";
import * as q from "./format.ts";
import { type Header, l2EntriesOf } from "./header.ts";
import { blockOffset, tableOffset } from "./mapping.ts";
import { printable } from "./names.ts";
import { hasHugeTable, hugeTable, lookAtSnapshots } from "./snapshots.ts";

/** Told how far the work is, from 0 to 1. */
export type Progress = (part: number) => void;

export function checkImage(image: SyncFile, header: Header, progress?: Progress): Findings {
  return new Checker(image, header, progress).run();
}

class Checker {
  readonly #image: SyncFile;
  readonly #header: Header;
  readonly #progress: Progress;
  readonly #clusterSize: number;
  readonly #fileSize: number;
  readonly #found: Findings;
  /** Uses of each L2 table, and whether the active L1 table is among the users. */
  readonly #l2Uses = new Map<number, { uses: number; active: boolean }>();
  readonly #stored: Counts;
  /** What is said of the first wrong flags, after what is said of counts. */
  readonly #flagMessages: string[] = [];

  constructor(image: SyncFile, header: Header, progress?: Progress) {
    this.#image = image;
    this.#header = header;
    this.#progress = progress ?? ((): void => {});
    this.#clusterSize = header.clusterSize;
    this.#fileSize = image.size();
    this.#found = nothingFound(Math.ceil(header.size / header.clusterSize));
    this.#stored = readCounts(image, header);
  }

  run(): Findings {
    const header = this.#header;
    this.#use(0, this.#clusterSize, 1, "header");
    this.#useL1(header.l1Offset, header.l1Size, 1, true, "active L1 table");
    this.#useSnapshots();
    const tables = [...this.#l2Uses].toSorted(([one], [other]) => one - other);
    tables.forEach(([offset, { uses, active }], index) => {
      this.#walkL2(offset, uses, active);
      this.#progress((index + 1) / (tables.length + 1));
    });
    for (const { name, wrong } of readBitmaps(this.#image, header).bitmaps) {
      if (wrong !== undefined) this.#corrupt(`bitmap '${printable(name)}': ${wrong}`);
    }
    for (const { offset, length, what } of bitmapClusters(this.#image, header)) {
      this.#use(offset, length, 1, what);
    }
    const { cryptHeader } = header;
    if (cryptHeader !== undefined) {
      this.#use(cryptHeader.offset, cryptHeader.length, 1, "encryption header");
    }
    this.#useRefcounts();
    compareCounts(header, this.#stored, this.#found);
    for (const message of this.#flagMessages) say(this.#found, message);
    this.#progress(1);
    return this.#found;
  }

  #corrupt(message: string): void {
    corrupt(this.#found, message);
  }

  /** What it would have shown is in use all the same. */
  #cannotFollow(message: string): void {
    this.#corrupt(message);
    this.#found.incomplete = true;
  }

  /** Of an entry of the active tables at `offset` in the file. */
  #lookAtFlag(cluster: number, offset: number, copied: boolean): void {
    const count = this.#stored.get(cluster);
    if (copied === (count === 1)) return;
    this.#wrongFlag(offset, copied ? "set" : "clear", count);
  }

  #wrongFlag(offset: number, bit: string, count?: number): void {
    this.#found.corruptions++;
    this.#found.wrongFlags++;
    if (this.#flagMessages.length === MESSAGES_MAX) return;
    const refcount = count === undefined ? "" : `, refcount=${count}`;
    this.#flagMessages.push(`ERROR bit 63 is ${bit} at 0x${offset.toString(16)}${refcount}`);
  }

  /**
   * Counts the clusters that a range touches. False when it ends a cluster and more behind the end
   * of the file; what of it is in the file is in use all the same.
   */
  #use(offset: number, length: number, uses: number, what: string): boolean {
    if (length === 0) return true;
    const isInside = offset + length - this.#fileSize < this.#clusterSize;
    if (!isInside) {
      this.#cannotFollow(`${what} at 0x${offset.toString(16)} goes beyond the end of the file`);
    }
    const stop = Math.min(offset + length, this.#fileSize) / this.#clusterSize;
    for (let cluster = Math.floor(offset / this.#clusterSize); cluster < stop; cluster++) {
      this.#found.counts.add(cluster, uses);
    }
    return isInside;
  }

  #useSnapshots(): void {
    const table = lookAtSnapshots(this.#image, this.#header);
    this.#use(this.#header.snapshotsOffset, table.length, 1, "snapshot table");
    table.snapshots.forEach(({ diskSize }, index) => {
      if (this.#header.version < 3 || diskSize !== undefined) return;
      this.#corrupt(`snapshot ${index + 1} does not say how large its disk is`);
    });
    const tables = new Map<number, { size: number; uses: number }>();
    for (const [index, snapshot] of table.snapshots.entries()) {
      const { l1Offset, l1Size } = snapshot;
      if (hasHugeTable(snapshot)) {
        this.#cannotFollow(hugeTable(snapshot, index));
        continue;
      }
      const known = tables.get(l1Offset);
      tables.set(l1Offset, {
        size: Math.max(l1Size, known?.size ?? 0),
        uses: (known?.uses ?? 0) + 1,
      });
    }
    let total = 0;
    for (const [offset, { size, uses }] of tables) {
      total += size * 8;
      if (total > this.#fileSize) {
        this.#cannotFollow("the snapshots' L1 tables are larger than the file");
        return;
      }
      this.#useL1(offset, size, uses, false, "L1 table of a snapshot");
    }
  }

  #useL1(offset: number, size: number, uses: number, active: boolean, what: string): void {
    if (size === 0) return;
    if (offset % this.#clusterSize !== 0) {
      this.#cannotFollow(`${what} at 0x${offset.toString(16)} does not begin a cluster`);
      return;
    }
    if (!this.#use(offset, size * 8, uses, what)) return;
    const view = this.#read(offset, size * 8);
    for (let index = 0; index < size; index++) {
      const table = tableOffset(view, index * 8, this.#clusterSize);
      if (table === 0) continue;
      if (table < 0) {
        this.#cannotFollow(`entry ${index} of the ${what} cannot be right`);
        continue;
      }
      const known = this.#l2Uses.get(table) ?? { uses: 0, active: false };
      known.uses += uses;
      known.active ||= active;
      this.#l2Uses.set(table, known);
      const copied = view.getUint32(index * 8) >>> 31 === 1;
      if (active) this.#lookAtFlag(table / this.#clusterSize, offset + index * 8, copied);
    }
  }

  #walkL2(table: number, uses: number, active: boolean): void {
    if (!this.#use(table, this.#clusterSize, uses, "L2 table")) return;
    const entrySize = this.#header.extendedL2 ? 16 : 8;
    const view = this.#read(table, this.#clusterSize);
    for (let index = 0; index < l2EntriesOf(this.#header); index++) {
      const at = index * entrySize;
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      if (this.#header.extendedL2) this.#checkBits(view, at, table);
      if ((high | low) === 0) continue;
      if ((high & q.HIGH_COMPRESSED) !== 0) this.#useCompressed(high, low, uses, active, table);
      else this.#useStandard(view, at, table, uses, active);
    }
  }

  #checkBits(view: DataView, at: number, table: number): void {
    const high = view.getUint32(at);
    const zero = view.getUint32(at + 8);
    const allocated = view.getUint32(at + 12);
    const compressed = (high & q.HIGH_COMPRESSED) !== 0;
    const where = `entry at 0x${(table + at).toString(16)}`;
    if (compressed && (zero | allocated) !== 0) this.#corrupt(`${where}: bits of a compressed one`);
    if ((zero & allocated) !== 0) this.#corrupt(`${where}: a subcluster is allocated and zero`);
    const offset = (high & q.HIGH_OFFSET) | (view.getUint32(at + 4) & q.LOW_OFFSET);
    const hasHost = offset !== 0 || (this.#header.externalData && high >>> 31 === 1);
    if (!compressed && allocated !== 0 && !hasHost) {
      this.#corrupt(`${where}: subclusters are allocated nowhere`);
    }
  }

  #useCompressed(high: number, low: number, uses: number, active: boolean, table: number): void {
    const { offset, length } = compressedPlace(high, low, this.#header.clusterBits);
    const where = `in the L2 table at 0x${table.toString(16)}`;
    if (this.#header.externalData) this.#corrupt(`a compressed cluster ${where}: data is external`);
    if (high >>> 31 === 1) this.#corrupt(`a compressed cluster ${where} has bit 63 set`);
    // The last sector is counted whole, and the file may end inside it.
    const first = Math.floor(offset / q.SECTOR) * q.SECTOR;
    this.#use(first, offset + length - first, uses, "compressed cluster");
    if (!active) return;
    this.#found.allocated++;
    this.#found.compressed++;
  }

  #useStandard(view: DataView, at: number, table: number, uses: number, active: boolean): void {
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    const where = `L2 entry at 0x${(table + at).toString(16)}`;
    const zeroFlag = this.#header.version === 2 ? q.LOW_ZERO : 0;
    if ((high & q.HIGH_RESERVED) !== 0 || (low & (q.LOW_RESERVED | zeroFlag)) !== 0) {
      this.#corrupt(`${where}: reserved bits are set`);
    }
    const offset = (high & q.HIGH_OFFSET) * q.TWO_32 + ((low & q.LOW_OFFSET) >>> 0);
    const copied = high >>> 31 === 1;
    if (offset === 0 && !(this.#header.externalData && copied)) return;
    if (offset % this.#clusterSize !== 0) {
      const message = `${where}: offset 0x${offset.toString(16)} does not begin a cluster`;
      if (hasNoData(view, at, this.#header)) this.#corrupt(message);
      else this.#cannotFollow(message);
      return;
    }
    if (active) this.#found.allocated++;
    if (this.#header.externalData) {
      if (active && !copied) this.#wrongFlag(table + at, "clear, and data is external");
      return;
    }
    this.#use(offset, this.#clusterSize, uses, "data cluster");
    if (active) this.#lookAtFlag(offset / this.#clusterSize, table + at, copied);
  }

  #useRefcounts(): void {
    const { refcountTableOffset, refcountTableClusters } = this.#header;
    const length = refcountTableClusters * this.#clusterSize;
    this.#use(refcountTableOffset, length, 1, "refcount table");
    const table = this.#read(refcountTableOffset, length);
    for (let index = 0; index < length / 8; index++) {
      const block = blockOffset(table, index * 8, this.#clusterSize);
      if (block < 0) this.#corrupt(`entry ${index} of the refcount table cannot be right`);
      if (block <= 0) continue;
      if (block >= this.#fileSize) {
        this.#corrupt(`refcount block ${index} begins beyond the end of the file`);
        continue;
      }
      if (!this.#use(block, this.#clusterSize, 1, "refcount block")) continue;
      const users = this.#found.counts.get(block / this.#clusterSize);
      if (users > 1) this.#corrupt(`refcount block ${index} has ${users} users`);
    }
  }

  #read(offset: number, length: number): DataView {
    const bytes = new Uint8Array(length);
    this.#image.read(bytes, offset);
    return new DataView(bytes.buffer);
  }
}
