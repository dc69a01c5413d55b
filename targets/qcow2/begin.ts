/** What an image has to be told before its first change. */

import type { SyncFile } from "../../src/target/file_io.ts";
import { type Bitmap, BITMAP_AUTO, BITMAP_IN_USE, readBitmaps } from "./bitmaps.ts";
import * as q from "./format.ts";
import type { Header } from "./header.ts";

/**
 * Clears the autoclear bits that we know nothing of, and marks the bitmaps that should follow
 * every change: we do not keep them. Durable when it returns. Throws SysError.
 */
export function beginWriting(image: SyncFile, header: Header): void {
  const directory = readBitmaps(image, header);
  const left = directory.bitmaps.filter(isLeftBehind);
  // Such a bitmap has to stay as it is; then none of them counts any more.
  const spoilt = left.some((bitmap) => bitmap.isForeign);
  const marked = !spoilt && markInUse(image, header, directory.bytes, left);
  const bitmaps = spoilt ? 0 : q.AUTOCLEAR_BITMAPS;
  const known = header.autoclearLow & (bitmaps | rawDataFile(header));
  if (setAutoclear(image, header, known) || marked) image.sync();
}

/**
 * The same for a change that no bitmap could show, such as that of a refcount: bitmaps stay as they
 * are, and go on being right.
 */
export function beginRepair(image: SyncFile, header: Header): void {
  const known = header.autoclearLow & (q.AUTOCLEAR_BITMAPS | rawDataFile(header));
  if (setAutoclear(image, header, known)) image.sync();
}

/** Answers whether that was a change. */
function setAutoclear(image: SyncFile, header: Header, known: number): boolean {
  if (header.autoclearHigh === 0 && header.autoclearLow === known) return false;
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(4, known);
  image.write(bytes, q.AUTOCLEAR_FEATURES_AT);
  return true;
}

const rawDataFile = (header: Header): number =>
  header.externalData ? q.AUTOCLEAR_RAW_DATA_FILE : 0;

/** It should follow every change, and so far it has. */
function isLeftBehind({ flags }: Bitmap): boolean {
  return (flags & BITMAP_AUTO) !== 0 && (flags & BITMAP_IN_USE) === 0;
}

function markInUse(
  image: SyncFile,
  header: Header,
  directory: Uint8Array,
  bitmaps: Bitmap[],
): boolean {
  if (bitmaps.length === 0) return false;
  const view = new DataView(directory.buffer);
  for (const { at, flags } of bitmaps) view.setUint32(at + 12, flags | BITMAP_IN_USE);
  image.write(directory, header.bitmaps!.directoryOffset);
  return true;
}
