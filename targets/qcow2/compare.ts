/** The refcounts of an image, compared with the uses that were counted. */

import type { SyncFile } from "../../src/target/file_io.ts";
import { Counts } from "./counts.ts";
import { type CopiedFlag, corrupt, type Findings, say } from "./findings.ts";
import type { Header } from "./header.ts";
import { tableOffset } from "./mapping.ts";
import { getRefcount } from "./refcount.ts";

/** Adds to `found` what the refcounts say that its counts do not, and flags that are wrong. */
export function compareCounts(
  image: SyncFile,
  header: Header,
  found: Findings,
  flags: CopiedFlag[],
): void {
  const fileSize = image.size();
  const { counts } = found;
  const seen = new Counts();
  for (const { cluster, count } of storedCounts(image, header)) {
    seen.add(cluster, count);
    const used = counts.get(cluster);
    // Behind the end of the file there is no space that could be lost.
    const inside = cluster * header.clusterSize < fileSize;
    if (count > used && inside) {
      found.leaks++;
      say(found, `Leaked cluster ${cluster} refcount=${count} reference=${used}`);
    } else if (count < used) tooFew(found, cluster, count, used);
  }
  for (const [cluster, used] of counts.entries()) {
    if (seen.get(cluster) === 0) tooFew(found, cluster, 0, used);
    found.endOffset = Math.max(found.endOffset, (cluster + 1) * header.clusterSize);
  }
  for (const { cluster, offset, copied } of flags) {
    const count = seen.get(cluster);
    if (copied === (count === 1)) continue;
    const bit = copied ? "set" : "clear";
    corrupt(found, `bit 63 is ${bit} at 0x${offset.toString(16)}, refcount=${count}`);
    found.wrongFlags.push({ offset, copied: counts.get(cluster) === 1 });
  }
}

function tooFew(found: Findings, cluster: number, count: number, used: number): void {
  corrupt(found, `cluster ${cluster} refcount=${count} reference=${used}`);
}

/** Every cluster whose refcount is not 0, as the file has it. */
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
  for (let index = 0; index < length / 8; index++) {
    const block = tableOffset(tableView, index * 8, clusterSize);
    if (block <= 0) continue;
    bytes.fill(0);
    image.read(bytes, block);
    if (bytes.every((byte) => byte === 0)) continue;
    for (let within = 0; within < entries; within++) {
      const count = getRefcount(view, 0, within, refcountOrder);
      if (count > 0) yield { cluster: index * entries + within, count };
    }
  }
}
