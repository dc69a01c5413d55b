/** An image read the plain way, from its bytes, for comparison: no cache, no ring, no chain. */

import type { SyncFile } from "../../../src/target/file_io.ts";
import { compressedPlace, decompress } from "../../../targets/qcow2/compressed.ts";
import { type Header, readHeader } from "../../../targets/qcow2/header.ts";

/** A file in memory. */
export class BytesFile implements SyncFile {
  readonly path = "image";
  readonly limit = Number.POSITIVE_INFINITY;
  bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  size(): number {
    return this.bytes.length;
  }
  read(into: Uint8Array, offset: number): number {
    const part = this.bytes.subarray(offset, offset + into.length);
    into.set(part);
    return part.length;
  }
  write(from: Uint8Array, offset: number): void {
    this.bytes.set(from, offset);
  }
  sync(): void {
    // it is memory
  }
  punch(offset: number, length: number): void {
    this.bytes.fill(0, offset, offset + length);
  }
  truncate(length: number): void {
    this.bytes = this.bytes.subarray(0, length);
  }
  dropCached(): void {
    // there is no page cache
  }
}

export function headerOf(bytes: Uint8Array): Header {
  return readHeader(bytes, "image", bytes.length);
}

/** The whole disk by the L1 table at `l1Offset`, the active one unless told otherwise. */
export function readAll(bytes: Uint8Array, l1Offset?: number, size?: number): Buffer {
  const header = headerOf(bytes);
  const disk = Buffer.alloc(size ?? header.size);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const { clusterSize } = header;
  const entrySize = header.extendedL2 ? 16 : 8;
  const l1 = l1Offset ?? header.l1Offset;
  for (let at = 0; at < disk.length; at += clusterSize) {
    const index = at / clusterSize;
    const perTable = clusterSize / entrySize;
    const table = Number(view.getBigUint64(l1 + Math.floor(index / perTable) * 8) & OFFSET);
    if (table === 0) continue;
    const entryAt = table + (index % perTable) * entrySize;
    const part = disk.subarray(at, at + clusterSize);
    readCluster(bytes, header, view, entryAt, part);
  }
  return disk;
}

const OFFSET = 0x00fffffffffffe00n;

function readCluster(
  bytes: Uint8Array,
  header: Header,
  view: DataView,
  entryAt: number,
  part: Buffer,
): void {
  const entry = view.getBigUint64(entryAt);
  if ((entry >> 62n) & 1n) {
    const high = view.getUint32(entryAt);
    const place = compressedPlace(high, view.getUint32(entryAt + 4), header.clusterBits);
    const input = bytes.subarray(place.offset, place.offset + place.length);
    part.set(
      decompress(input, header.compressionType, header.clusterSize)!.subarray(0, part.length),
    );
    return;
  }
  const host = Number(entry & OFFSET);
  if (!header.extendedL2) {
    if (host !== 0 && (entry & 1n) === 0n) part.set(bytes.subarray(host, host + part.length));
    return;
  }
  const allocated = view.getUint32(entryAt + 12);
  const unit = header.clusterSize / 32;
  for (let bit = 0; bit < 32 && bit * unit < part.length; bit++) {
    if (((allocated >>> bit) & 1) === 0) continue;
    const from = host + bit * unit;
    part.set(bytes.subarray(from, from + Math.min(unit, part.length - bit * unit)), bit * unit);
  }
}
