/** The bitmaps of an image: the directory, and which clusters they use. */

import type { SyncFile } from "../../src/target/file_io.ts";
import * as q from "./format.ts";
import { type Header, ImageError } from "./header.ts";
import { getOffset } from "./mapping.ts";

/** A bitmap that nobody keeps up to date any more is marked as one that is in use. */
export const BITMAP_IN_USE = 1;
export const BITMAP_AUTO = 2;
const EXTRA_DATA_COMPATIBLE = 4;
const KNOWN_FLAGS = 7;
const DIRTY_TRACKING = 1;
/** qemu's limits: 512 bytes to 2 GiB. */
const GRANULARITY_BITS_MIN = 9;
const GRANULARITY_BITS_MAX = 31;
const NAME_MAX = 1023;
/** qemu's limit: 1 GiB. */
const TABLE_ENTRIES_MAX = 2 ** 27;
const ENTRY = 24;
/** As much of a table as is read at once. */
const STEP = 1 << 20;

export interface Bitmap {
  /** Where in the directory its entry stands. */
  at: number;
  tableOffset: number;
  tableSize: number;
  flags: number;
  /** It carries more than the format knows of, and may not be touched without knowing it. */
  isForeign: boolean;
  name: string;
  /** Bytes of the disk that one bit stands for. */
  granularity: number;
  /** What its entry must not say; undefined when it is right. */
  wrong: string | undefined;
}

export interface BitmapDirectory {
  bytes: Uint8Array;
  bitmaps: Bitmap[];
}

/** Without the autoclear bit there is nothing that counts. Throws ImageError. */
export function readBitmaps(image: SyncFile, header: Header): BitmapDirectory {
  const consistent = (header.autoclearLow & q.AUTOCLEAR_BITMAPS) !== 0;
  if (header.bitmaps === undefined || !consistent) return { bytes: new Uint8Array(), bitmaps: [] };
  const { count, directoryOffset, directorySize } = header.bitmaps;
  const refuse = (what: string): never => {
    throw new ImageError(image.path, `the bitmap directory ${what}`);
  };
  if (count > q.BITMAPS_MAX || directorySize > q.BITMAP_DIRECTORY_BYTES_MAX) refuse("is too large");
  if (directoryOffset % header.clusterSize !== 0 || directoryOffset < header.clusterSize) {
    refuse(`is at ${directoryOffset}, which is no cluster of its own`);
  }
  const bytes = new Uint8Array(directorySize);
  if (image.read(bytes, directoryOffset) !== directorySize) refuse("goes beyond the file");
  const view = new DataView(bytes.buffer);
  const bitmaps: Bitmap[] = [];
  for (let at = 0, left = count; left > 0; left--) {
    if (at + ENTRY > directorySize) refuse("is shorter than its bitmaps");
    const nameLength = view.getUint16(at + 18);
    const extra = view.getUint32(at + 20);
    const nameAt = at + ENTRY + extra;
    if (nameAt + nameLength > directorySize) refuse("is shorter than its bitmaps");
    const flags = view.getUint32(at + 12);
    bitmaps.push({
      at,
      tableOffset: getOffset(view, at),
      tableSize: view.getUint32(at + 8),
      flags,
      isForeign: extra > 0 && (flags & EXTRA_DATA_COMPATIBLE) === 0,
      name: new TextDecoder().decode(bytes.subarray(nameAt, nameAt + nameLength)),
      granularity: 2 ** view.getUint8(at + 17),
      wrong: whatIsWrong(view, at),
    });
    at += Math.ceil((nameAt + nameLength - at) / 8) * 8;
  }
  return { bytes, bitmaps };
}

/** In the fields of an entry, each by itself. */
function whatIsWrong(view: DataView, at: number): string | undefined {
  const flags = view.getUint32(at + 12);
  const type = view.getUint8(at + 16);
  const bits = view.getUint8(at + 17);
  const nameLength = view.getUint16(at + 18);
  if ((flags & ~KNOWN_FLAGS) !== 0) return `reserved flags are set, 0x${flags.toString(16)}`;
  if (type !== DIRTY_TRACKING) return `its type is ${type}, not ${DIRTY_TRACKING}`;
  if (bits < GRANULARITY_BITS_MIN || bits > GRANULARITY_BITS_MAX) {
    return `its granularity is 2^${bits} bytes`;
  }
  return nameLength === 0 || nameLength > NAME_MAX ? "its name is empty or too long" : undefined;
}

export interface Used {
  offset: number;
  length: number;
  what: string;
}

/** What the bitmaps use of the file. */
export function* bitmapClusters(image: SyncFile, header: Header): Generator<Used> {
  const { bitmaps } = readBitmaps(image, header);
  if (bitmaps.length === 0) return;
  const { directoryOffset, directorySize } = header.bitmaps!;
  yield { offset: directoryOffset, length: directorySize, what: "bitmap directory" };
  let total = 0;
  for (const { tableOffset, tableSize } of bitmaps) {
    total += tableSize * 8;
    if (tableSize > TABLE_ENTRIES_MAX || total > image.size()) {
      throw new ImageError(image.path, "bitmap tables exceed the file or their limit, 1 GiB");
    }
    yield { offset: tableOffset, length: tableSize * 8, what: "bitmap table" };
    for (let at = 0; at < tableSize * 8; at += STEP) {
      const bytes = new Uint8Array(Math.min(STEP, tableSize * 8 - at));
      image.read(bytes, tableOffset + at);
      yield* dataOf(new DataView(bytes.buffer), header.clusterSize);
    }
  }
}

/** What entries of a bitmap's table lead to. */
function* dataOf(table: DataView, clusterSize: number): Generator<Used> {
  for (let at = 0; at < table.byteLength; at += 8) {
    const low = table.getUint32(at + 4) & q.LOW_OFFSET;
    const offset = (table.getUint32(at) & q.HIGH_OFFSET) * q.TWO_32 + (low >>> 0);
    if (offset > 0) yield { offset, length: clusterSize, what: "bitmap data" };
  }
}
