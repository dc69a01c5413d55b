/** What an image has to be told before its first change. */

import type { SyncFile } from "../../src/target/file_io.ts";
import { BITMAP_AUTO, BITMAP_IN_USE, readBitmaps } from "./bitmaps.ts";
import * as q from "./format.ts";
import type { Header } from "./header.ts";

/**
 * Clears the autoclear bits that we know nothing of, and marks the bitmaps that should follow
 * every change: we do not keep them. Durable when it returns. Throws SysError.
 */
export function beginWriting(image: SyncFile, header: Header): void {
  let changed = markBitmaps(image, header);
  let known = header.autoclearLow & q.AUTOCLEAR_BITMAPS;
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
  const { bytes, bitmaps } = readBitmaps(image, header);
  const view = new DataView(bytes.buffer);
  let changed = false;
  for (const { at, flags } of bitmaps) {
    if ((flags & BITMAP_AUTO) === 0 || (flags & BITMAP_IN_USE) !== 0) continue;
    view.setUint32(at + 12, flags | BITMAP_IN_USE);
    changed = true;
  }
  if (changed) image.write(bytes, header.bitmaps!.directoryOffset);
  return changed;
}
