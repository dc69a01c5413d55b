/** What an image has to be told before its first change. */

import type { SyncFile } from "../../src/target/file_io.ts";
import * as q from "./format.ts";
import { type Header, ImageError } from "./header.ts";

/** A bitmap that nobody keeps up to date any more is marked as one that is in use. */
const BITMAP_IN_USE = 1;
const BITMAP_AUTO = 2;
const BITMAP_ENTRY = 24;

/**
 * Clears the autoclear bits that we know nothing of, and marks the bitmaps that should follow
 * every change: we do not keep them. Durable when it returns. Throws SysError.
 */
export function beginWriting(image: SyncFile, header: Header): void {
  let changed = false;
  const consistent = (header.autoclearLow & q.AUTOCLEAR_BITMAPS) !== 0;
  if (header.bitmaps !== undefined && consistent) changed = markBitmaps(image, header);
  let known = 0;
  if (consistent) known |= q.AUTOCLEAR_BITMAPS;
  if (header.externalData) known |= header.autoclearLow & q.AUTOCLEAR_RAW_DATA_FILE;
  if (header.autoclearHigh !== 0 || header.autoclearLow !== known) {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setUint32(4, known);
    image.write(bytes, q.AUTOCLEAR_FEATURES_AT);
    changed = true;
  }
  if (changed) image.sync();
}

function markBitmaps(image: SyncFile, header: Header): boolean {
  const { count, directoryOffset, directorySize } = header.bitmaps!;
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
  let changed = false;
  for (let at = 0, left = count; left > 0; left--) {
    if (at + BITMAP_ENTRY > directorySize) refuse("is shorter than its bitmaps");
    const flags = view.getUint32(at + 12);
    if ((flags & BITMAP_AUTO) !== 0 && (flags & BITMAP_IN_USE) === 0) {
      view.setUint32(at + 12, flags | BITMAP_IN_USE);
      changed = true;
    }
    const length = BITMAP_ENTRY + view.getUint16(at + 18) + view.getUint32(at + 20);
    at += Math.ceil(length / 8) * 8;
  }
  if (changed) image.write(bytes, directoryOffset);
  return changed;
}
