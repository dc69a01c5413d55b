/** What the block device below a disk says of its queue, in sysfs. */

import { existsSync, readFileSync, realpathSync, type Stats } from "node:fs";
import type { Segments } from "./target.ts";

/** A number from the queue of a block device; a partition has its disk's. 0 when unknown. */
export function queueLimit(device: number, name: string): number {
  const major = ((device >>> 8) & 0xfff) | (Math.floor(device / 2 ** 32) & ~0xfff);
  const minor = (device & 0xff) | ((device >>> 12) & ~0xff & 0xfffff);
  const link = `/sys/dev/block/${major}:${minor}`;
  if (!existsSync(link)) return 0;
  const folder = realpathSync(link);
  const file = [`${folder}/queue/${name}`, `${folder}/../queue/${name}`].find(existsSync);
  return file === undefined ? 0 : Number(readFileSync(file, "utf8"));
}

/** The driver's UBLK_MIN_SEGMENT_SIZE, and what its members can hold. */
const SEGMENT_MIN = 4096;
const U16_MAX = 0xffff;
const U32_MAX = 0xffffffff;

/**
 * How the device takes memory that direct IO hands to it: a block device itself, or what the file
 * system of a file is on. Undefined for a file system on none (tmpfs, NFS) or on several (btrfs).
 */
export function segmentsOf(stats: Stats): Segments | undefined {
  const device = stats.isBlockDevice() ? stats.rdev : stats.dev;
  const count = queueLimit(device, "max_segments");
  const size = queueLimit(device, "max_segment_size");
  if (count === 0 || size < SEGMENT_MIN) return undefined;
  return {
    count: Math.min(count, U16_MAX),
    size: Math.min(size, U32_MAX),
    gapMask: queueLimit(device, "virt_boundary_mask"),
  };
}
