/** Facts of disks for tests that need some and look at few. */

import type { Disk } from "../src/target/target.ts";

/** 1 MiB with every ability, except for what is said otherwise. */
export function diskOf(facts: Partial<Disk> = {}): Disk {
  return {
    size: 1 << 20,
    blockBits: 9,
    physicalBits: 12,
    readOnly: false,
    rotational: false,
    files: [],
    flush: true,
    fua: true,
    discardGranularity: 4096,
    writeZeroes: true,
    touchesBytes: false,
    memoryAlignment: 1,
    segments: undefined,
    threads: "any",
    report: {},
    ...facts,
  };
}
