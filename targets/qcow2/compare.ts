/** The refcounts of an image, compared with the uses that were counted. */

import type { SyncFile } from "../../src/target/file_io.ts";
import { Counts } from "./counts.ts";
import { corrupt, type Findings, say } from "./findings.ts";
import type { Header } from "./header.ts";
import { blockOffset } from "./mapping.ts";
import { getRefcount } from "./refcount.ts";

/**
 * The refcounts as the file has them. Behind its end there is no space that could be lost, nor any
 * user.
 */
export function readCounts(image: SyncFile, header: Header): Counts {
  const stored = new Counts();
  const end = Math.ceil(image.size() / header.clusterSize);
  for (const { cluster, count } of storedCounts(image, header)) {
    if (cluster < end) stored.add(cluster, count);
  }
  return stored;
}

/** Adds to `found` what the refcounts say that its counts do not. */
export function compareCounts(header: Header, stored: Counts, found: Findings): void {
  const { counts } = found;
  const endsBehind = (cluster: number): void => {
    found.endOffset = Math.max(found.endOffset, (cluster + 1) * header.clusterSize);
  };
  for (const [cluster, count] of stored.entries()) {
    const used = counts.get(cluster);
    endsBehind(cluster);
    if (count > used) {
      found.leaks++;
      say(found, `Leaked cluster ${cluster} refcount=${count} reference=${used}`);
    } else if (count < used) tooFew(found, cluster, count, used);
  }
  for (const [cluster, used] of counts.entries()) {
    if (stored.get(cluster) === 0) tooFew(found, cluster, 0, used);
    endsBehind(cluster);
  }
}

function tooFew(found: Findings, cluster: number, count: number, used: number): void {
  corrupt(found, `cluster ${cluster} refcount=${count} reference=${used}`);
}

/**
 * Every cluster whose refcount is not 0. A block that stands in the table twice is read once: the
 * second time it would speak of clusters that are not its own, and in a hostile image a million
 * times.
 */
export function* storedCounts(
  image: SyncFile,
  header: Header,
): Generator<{ cluster: number; count: number }> {
  const { clusterSize, refcountOrder } = header;
  const entries = (clusterSize * 8) / 2 ** refcountOrder;
  const length = header.refcountTableClusters * clusterSize;
  const table = new Uint8Array(length);
  image.read(table, header.refcountTableOffset);
  const tableView = new DataView(table.buffer);
  const bytes = new Uint8Array(clusterSize);
  const view = new DataView(bytes.buffer);
  const blocks = new Set<number>();
  for (let index = 0; index < length / 8; index++) {
    const block = blockOffset(tableView, index * 8, clusterSize);
    if (block <= 0 || block >= image.size() || blocks.has(block)) continue;
    blocks.add(block);
    bytes.fill(0);
    image.read(bytes, block);
    if (bytes.every((byte) => byte === 0)) continue;
    for (let within = 0; within < entries; within++) {
      const count = getRefcount(view, 0, within, refcountOrder);
      if (count > 0) yield { cluster: index * entries + within, count };
    }
  }
}
