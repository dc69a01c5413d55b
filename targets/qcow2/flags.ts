/**
 * Bit 63 of the entries of the active tables, put right: it says that a refcount is 1. And the
 * offsets of those that show zeros, where no cluster can begin: none is needed.
 */

import type { SyncFile } from "../../src/target/file_io.ts";
import type { Counts } from "./counts.ts";
import * as q from "./format.ts";
import { type Header, l2EntriesOf } from "./header.ts";
import { tableOffset } from "./mapping.ts";

/** One table after the other, for there may be millions of entries. `counts`: as they are now. */
export function correctFlags(image: SyncFile, header: Header, counts: Counts): void {
  const l1 = read(image, header.l1Offset, header.l1Size * 8);
  const tables = new Set<number>();
  let changed = false;
  for (let at = 0; at < l1.byteLength; at += 8) {
    const table = tableOffset(l1, at, header.clusterSize);
    if (table <= 0) continue;
    tables.add(table);
    const isAlone = counts.get(table / header.clusterSize) === 1;
    changed = setFlag(l1, at, isAlone) || changed;
  }
  if (changed) image.write(bytesOf(l1), header.l1Offset);
  for (const table of tables) correctTable(image, header, counts, table);
}

function correctTable(image: SyncFile, header: Header, counts: Counts, table: number): void {
  const { clusterSize } = header;
  const view = read(image, table, clusterSize);
  const entrySize = clusterSize / l2EntriesOf(header);
  let changed = false;
  for (let at = 0; at + entrySize <= view.byteLength; at += entrySize) {
    const high = view.getUint32(at);
    if ((high & q.HIGH_COMPRESSED) !== 0) continue;
    const low = (view.getUint32(at + 4) & q.LOW_OFFSET) >>> 0;
    const offset = (high & q.HIGH_OFFSET) * q.TWO_32 + low;
    if (offset === 0) continue;
    if (offset % clusterSize !== 0 && hasNoData(view, at, header)) {
      view.setUint32(at, 0);
      view.setUint32(at + 4, view.getUint32(at + 4) & q.LOW_ZERO);
      changed = true;
      continue;
    }
    const isAlone = header.externalData || counts.get(offset / clusterSize) === 1;
    changed = setFlag(view, at, isAlone) || changed;
  }
  if (changed) image.write(bytesOf(view), table);
}

/** Whether the standard entry at `at` shows zeros, or nothing, whatever its offset is. */
export function hasNoData(view: DataView, at: number, header: Header): boolean {
  if (header.extendedL2) return view.getUint32(at + 12) === 0; // no subcluster is allocated
  return header.version >= 3 && (view.getUint32(at + 4) & q.LOW_ZERO) !== 0;
}

/** Answers whether that was a change. */
function setFlag(view: DataView, at: number, copied: boolean): boolean {
  const before = view.getUint8(at);
  const after = copied ? before | 0x80 : before & 0x7f;
  view.setUint8(at, after);
  return after !== before;
}

/** As much of it as is in the file. */
function read(image: SyncFile, offset: number, length: number): DataView {
  const bytes = new Uint8Array(length);
  return new DataView(bytes.buffer, 0, image.read(bytes, offset));
}

const bytesOf = (view: DataView): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
