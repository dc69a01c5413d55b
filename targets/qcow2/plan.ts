/** What a WRITE has to do to one guest cluster: where its bytes go, what it must bring along. */

import * as q from "./format.ts";
import { COMPRESSED, DATA, type Mapping } from "./mapping.ts";

/** The cluster needs nothing but its bytes, room in a cluster that is ours, or a new cluster. */
export const IN_PLACE = 1;
const PREPARE = 2;
export const NEW = 3;
export const REFUSED = 4;

const ALL = 0xffffffff;

/** A piece of a cluster, in bytes from its beginning. */
export interface Span {
  from: number;
  to: number;
}

/** What an entry becomes: the bits of its subclusters, allocated and reading zero. */
export interface Bits {
  allocated: number;
  zero: number;
}

/** How the unit (cluster or subcluster) at `within` can be written to. */
export function wayOf(mapping: Mapping, slot: number, cluster: number, within: number): number {
  const kind = mapping.unitAt(slot, cluster, within);
  if (kind === DATA && (mapping.owned || mapping.external)) return IN_PLACE;
  if (kind > COMPRESSED) return REFUSED;
  if (mapping.external) return PREPARE;
  const hostsCluster = kind !== COMPRESSED && mapping.owned && mapping.host !== within;
  return hostsCluster ? PREPARE : NEW;
}

/** The subclusters that [from, to) touches, one bit each. */
function touchedBits(clusterSize: number, from: number, to: number): number {
  const size = clusterSize / q.SUBCLUSTERS;
  const first = Math.floor(from / size);
  const last = Math.floor((to - 1) / size);
  return ((ALL >>> (31 - (last - first))) << first) >>> 0;
}

/** The bits after a WRITE of [from, to), given the entry at `at` in the cache. */
export function bitsAfter(mapping: Mapping, at: number, from: number, to: number): Bits {
  const view = mapping.cache.view;
  if ((view.getUint32(at) & q.HIGH_COMPRESSED) !== 0) return { allocated: ALL, zero: 0 };
  const touched = touchedBits(mapping.clusterSize, from, to);
  const allocated = (view.getUint32(at + 12) | touched) >>> 0;
  return { allocated, zero: (view.getUint32(at + 8) & ~allocated) >>> 0 };
}

/**
 * What a WRITE of [from, to) has to bring along from what was there: the rest of each unit that
 * it begins, and in a new cluster the units that were elsewhere.
 */
export function fillSpans(
  mapping: Mapping,
  at: number,
  way: number,
  from: number,
  to: number,
): Span[] {
  const size = mapping.clusterSize;
  const spans: Span[] = [];
  if (!mapping.extended) {
    if (from > 0) spans.push({ from: 0, to: from });
    if (to < size) spans.push({ from: to, to: size });
    return spans;
  }
  const before = bitsAfter(mapping, at, from, to).allocated;
  const old = mapping.cache.view.getUint32(at + 12);
  const unit = size / q.SUBCLUSTERS;
  for (let bit = 0; bit < q.SUBCLUSTERS; bit++) {
    if (((before >>> bit) & 1) === 0) continue;
    // In a cluster of ours what is allocated stays as it is.
    if (way === PREPARE && ((old >>> bit) & 1) === 1) continue;
    const begin = bit * unit;
    const end = begin + unit;
    if (from >= end || to <= begin) pushSpan(spans, begin, end);
    else {
      if (begin < from) pushSpan(spans, begin, from);
      if (to < end) pushSpan(spans, to, end);
    }
  }
  return spans;
}

function pushSpan(spans: Span[], from: number, to: number): void {
  const last = spans.at(-1);
  if (last !== undefined && last.to === from) last.to = to;
  else spans.push({ from, to });
}
