/** Reference counts: where each cluster's stands, and their eight widths. */

import { bytesAt, viewAt } from "../../src/target/memory.ts";
import type { QueueContext } from "../../src/target/target.ts";
import type { SyncFile } from "../../src/target/file_io.ts";
import type { Header } from "./header.ts";
import { getOffset, putOffset, blockOffset } from "./mapping.ts";
import { SLICE } from "./table_cache.ts";

/** Entry `index` of the refcounts that begin at `base`; 2^order bits each. */
export function getRefcount(view: DataView, base: number, index: number, order: number): number {
  if (order === 4) return view.getUint16(base + index * 2);
  if (order === 3) return view.getUint8(base + index);
  if (order === 5) return view.getUint32(base + index * 4);
  if (order === 6) return getOffset(view, base + index * 8);
  const bits = 1 << order;
  const shift = (index * bits) & 7;
  return (view.getUint8(base + ((index * bits) >>> 3)) >>> shift) & ((1 << bits) - 1);
}

export function setRefcount(
  view: DataView,
  base: number,
  index: number,
  order: number,
  value: number,
): void {
  if (order === 4) view.setUint16(base + index * 2, value);
  else if (order === 3) view.setUint8(base + index, value);
  else if (order === 5) view.setUint32(base + index * 4, value);
  else if (order === 6) putOffset(view, base + index * 8, value);
  else {
    const bits = 1 << order;
    const at = base + ((index * bits) >>> 3);
    const shift = (index * bits) & 7;
    const mask = ((1 << bits) - 1) << shift;
    view.setUint8(at, (view.getUint8(at) & ~mask) | (value << shift));
  }
}

/** The refcount table in memory, and where a cluster's count is found. */
export class RefcountTable {
  readonly order: number;
  readonly clusterSize: number;
  /** Counts in one block, and in one slice of it. */
  readonly blockEntries: number;
  readonly sliceEntries: number;
  readonly sliceSize: number;
  /** Of the table: where in the file, in how many clusters; its entries and their bytes. */
  offset: number;
  clusters: number;
  entries: number;
  address: number;
  view: DataView;

  constructor(header: Header, image: SyncFile, context: QueueContext) {
    this.order = header.refcountOrder;
    this.clusterSize = header.clusterSize;
    this.blockEntries = (header.clusterSize * 8) / 2 ** header.refcountOrder;
    this.sliceSize = Math.min(SLICE, header.clusterSize);
    this.sliceEntries = (this.sliceSize * 8) / 2 ** header.refcountOrder;
    this.offset = header.refcountTableOffset;
    this.clusters = header.refcountTableClusters;
    const length = this.clusters * this.clusterSize;
    this.entries = length / 8;
    this.address = context.allocate(length);
    image.read(bytesAt(this.address, length), this.offset);
    this.view = viewAt(this.address, length);
  }

  /** The refcount block in charge of a cluster: 0 for none, -1 for what cannot be. */
  blockOf(cluster: number): number {
    const index = Math.floor(cluster / this.blockEntries);
    return index < this.entries ? blockOffset(this.view, index * 8, this.clusterSize) : 0;
  }

  /** Where in the file the slice with this cluster's count stands; `block` from `blockOf`. */
  sliceOffset(block: number, cluster: number): number {
    const slice = Math.floor((cluster % this.blockEntries) / this.sliceEntries);
    return block + slice * this.sliceSize;
  }

  /** The first cluster whose count is in the next slice. */
  sliceEnd(cluster: number): number {
    return (Math.floor(cluster / this.sliceEntries) + 1) * this.sliceEntries;
  }

  get(view: DataView, slot: number, cluster: number): number {
    return getRefcount(view, slot * SLICE, cluster % this.sliceEntries, this.order);
  }

  set(view: DataView, slot: number, cluster: number, value: number): void {
    setRefcount(view, slot * SLICE, cluster % this.sliceEntries, this.order, value);
  }
}
