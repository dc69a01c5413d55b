/** The header extensions; what is unknown stays where it is: the header is never rewritten. */

import * as q from "./format.ts";
import type { Refuse } from "./header.ts";
import { getOffset } from "./mapping.ts";
import { printable, textOf } from "./names.ts";

export interface FeatureName {
  /** 0 incompatible, 1 compatible, 2 autoclear. */
  kind: number;
  bit: number;
  name: string;
}

export interface BitmapsExtension {
  count: number;
  directorySize: number;
  directoryOffset: number;
}

export interface Extensions {
  backingFormat: string | undefined;
  dataFileName: string | undefined;
  featureNames: FeatureName[];
  bitmaps: BitmapsExtension | undefined;
  cryptHeader: { offset: number; length: number } | undefined;
}

const FEATURE_ENTRY = 48;
const NAMES: Record<number, string> = {
  [q.EXTENSION_BACKING_FORMAT]: "backing file format",
  [q.EXTENSION_FEATURE_NAMES]: "feature name table",
  [q.EXTENSION_BITMAPS]: "bitmaps",
  [q.EXTENSION_CRYPT_HEADER]: "full disk encryption header",
  [q.EXTENSION_DATA_FILE]: "external data file name",
};

/** `end`: where the area ends even without an end marker. */
export function readExtensions(
  view: DataView,
  begin: number,
  end: number,
  refuse: Refuse,
): Extensions {
  const found: Extensions = {
    backingFormat: undefined,
    dataFileName: undefined,
    featureNames: [],
    bitmaps: undefined,
    cryptHeader: undefined,
  };
  const seen = new Set<number>();
  const limit = Math.min(end, view.byteLength);
  for (let at = begin; at < end;) {
    // Behind the end of a short file there are zeros, which are the end marker.
    if (at + 8 > limit && limit < end) break;
    if (at + 8 > end) refuse(`a header extension at ${at} goes beyond the end of their area`);
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === q.EXTENSION_END) break;
    const name = NAMES[type] ?? `0x${type.toString(16)}`;
    if (length > limit - at - 8) {
      refuse(`header extension '${name}' has ${length} bytes, beyond the first cluster`);
    }
    if (seen.has(type) && NAMES[type] !== undefined) refuse(`two header extensions '${name}'`);
    seen.add(type);
    const data = new DataView(view.buffer, view.byteOffset + at + 8, length);
    readExtension(type, data, found, refuse);
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}

function readExtension(type: number, data: DataView, found: Extensions, refuse: Refuse): void {
  if (type === q.EXTENSION_BACKING_FORMAT) {
    found.backingFormat = text(data) || undefined; // an empty name is none
  } else if (type === q.EXTENSION_DATA_FILE) found.dataFileName = text(data);
  else if (type === q.EXTENSION_FEATURE_NAMES) found.featureNames = featureNames(data);
  else if (type === q.EXTENSION_BITMAPS) found.bitmaps = bitmaps(data, refuse);
  else if (type === q.EXTENSION_CRYPT_HEADER) found.cryptHeader = cryptHeader(data, refuse);
}

function text(data: DataView): string {
  return textOf(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

function featureNames(data: DataView): FeatureName[] {
  const names: FeatureName[] = [];
  // The last one may be cut short behind its name.
  for (let at = 0; at + 2 < data.byteLength; at += FEATURE_ENTRY) {
    const end = Math.min(at + FEATURE_ENTRY, data.byteLength);
    const name = text(new DataView(data.buffer, data.byteOffset + at + 2, end - at - 2));
    names.push({ kind: data.getUint8(at), bit: data.getUint8(at + 1), name: printable(name) });
  }
  return names;
}

function bitmaps(data: DataView, refuse: Refuse): BitmapsExtension {
  if (data.byteLength !== 24) {
    refuse(`the bitmaps extension has ${data.byteLength} bytes, not 24`);
  }
  return {
    count: data.getUint32(0),
    directorySize: getOffset(data, 8),
    directoryOffset: getOffset(data, 16),
  };
}

function cryptHeader(data: DataView, refuse: Refuse): { offset: number; length: number } {
  if (data.byteLength !== 16) {
    refuse(`the full disk encryption header extension has ${data.byteLength} bytes, not 16`);
  }
  return {
    offset: getOffset(data, 0),
    length: getOffset(data, 8),
  };
}
