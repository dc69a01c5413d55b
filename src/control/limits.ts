/** What a user may ask of a disk beyond what its target found: block sizes and attributes. */

import { EINVAL, SysError } from "../../ffi/errno.ts";
import type { Disk } from "../target/target.ts";

/** Plain data; undefined leaves the target's own choice. */
export interface AskedLimits {
  logicalBlock?: number;
  physicalBlock?: number;
  rotational?: boolean;
}

/** The largest physical block that the driver takes. */
export const PHYSICAL_BLOCK_MAX = 256 << 20;

/** The disk with what was asked for; throws where that cannot work. */
export function withLimits(disk: Disk, asked: AskedLimits): Disk {
  const least = 2 ** disk.blockBits;
  const logical = asked.logicalBlock ?? least;
  if (logical < least) {
    throw refused("--logical-block-size", logical, `the backing file needs at least ${least}`);
  }
  if (disk.size % logical !== 0) {
    throw refused("--logical-block-size", logical, `the disk's ${disk.size} bytes are no multiple`);
  }
  const physical = asked.physicalBlock ?? Math.max(logical, 2 ** disk.physicalBits);
  if (physical < logical) {
    throw refused("--physical-block-size", physical, `the logical block size is ${logical}`);
  }
  return {
    ...disk,
    blockBits: Math.log2(logical),
    physicalBits: Math.log2(physical),
    rotational: asked.rotational ?? disk.rotational,
  };
}

function refused(option: string, size: number, reason: string): SysError {
  return new SysError({ op: option, errno: EINVAL, subject: String(size), reason });
}
