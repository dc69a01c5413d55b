/** The tables of an image that is opened for writing: all that is known without the L2 tables. */

import type { SyncFile } from "../../src/target/file_io.ts";
import type { Header } from "./header.ts";
import { KnownTables } from "./known_tables.ts";
import { type Mapping, tableOffset } from "./mapping.ts";
import type { RefcountTable } from "./refcount.ts";
import { readSnapshots } from "./snapshots.ts";

/** From byte or cluster `begin` to `end`. */
type Range = [begin: number, end: number];

/**
 * Tells the mapping where tables stand: L2 tables, refcount blocks, and what belongs to snapshots.
 * Answers what makes any WRITE dangerous, if there is such a thing. Throws SysError.
 */
export function findTables(
  image: SyncFile,
  header: Header,
  mapping: Mapping,
  refcounts: RefcountTable,
): string | undefined {
  const { clusterSize } = header;
  const ranges = fixedRanges(image, header).map(([begin, end]): Range => {
    return [Math.floor(begin / clusterSize), Math.ceil(end / clusterSize)];
  });
  const known = new KnownTables(Float64Array.from(apart(ranges).flat()));
  mapping.known = known;
  for (let index = 0; index < header.l1Size; index++) {
    const table = tableOffset(mapping.l1, index * 8, clusterSize);
    if (table > 0) known.add(table / clusterSize);
  }
  for (let index = 0; index < refcounts.entries; index++) {
    const block = refcounts.blockOf(index * refcounts.blockEntries);
    if (block <= 0) continue;
    // A count that is set there would be written into the other table.
    if (mapping.isForbidden(block)) {
      return `entry ${index} of the refcount table leads to another table`;
    }
    known.add(block / clusterSize);
  }
  return undefined;
}

/** What nobody moves as long as the image is open, in bytes. */
function fixedRanges(image: SyncFile, header: Header): Range[] {
  const { snapshots, length } = readSnapshots(image, header);
  const { snapshotsOffset, cryptHeader } = header;
  const ranges = snapshots.map(({ l1Offset, l1Size }): Range => [l1Offset, l1Offset + l1Size * 8]);
  ranges.push([snapshotsOffset, snapshotsOffset + length]);
  if (cryptHeader !== undefined) {
    ranges.push([cryptHeader.offset, cryptHeader.offset + cryptHeader.length]);
  }
  return ranges;
}

/** In order, and those that meet as one. */
function apart(ranges: Range[]): Range[] {
  const all: Range[] = [];
  for (const [begin, end] of ranges.toSorted(([one], [other]) => one - other)) {
    const last = all.at(-1);
    if (last !== undefined && begin <= last[1]) last[1] = Math.max(last[1], end);
    else if (begin < end) all.push([begin, end]);
  }
  return all;
}
