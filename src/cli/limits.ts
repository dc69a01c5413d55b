/** The options of `add` that shape the block device: block sizes, attributes, CPUs. */

import { type AskedLimits, PHYSICAL_BLOCK_MAX } from "../control/limits.ts";
import { parseCpuSet, parseSize, UsageError } from "../target/parse.ts";
import type { OptionValues } from "../target/target.ts";
import type { OptionTable } from "./options.ts";

const SECTOR = 512;
/** The driver takes up to a page, which is no smaller anywhere. */
const LOGICAL_BLOCK_MAX = 4096;

export const LIMIT_OPTIONS: OptionTable = {
  "logical-block-size": {
    type: "string",
    valueHint: "SIZE",
    description: "smallest request: 512 to 4096 (default: what the backing file needs)",
  },
  "physical-block-size": {
    type: "string",
    valueHint: "SIZE",
    description: "what file systems should align to, up to 256M",
  },
  rotational: { type: "boolean", description: "say that the disk is a rotating one" },
  "no-auto-part-scan": {
    type: "boolean",
    description: "do not look for partitions (Linux 7.0)",
  },
  "queue-affinity": {
    type: "string",
    valueHint: "SETS",
    description: "CPUs of the queues' threads, queue by queue: 0-1/2,3",
  },
};

export function askedLimits(values: OptionValues): AskedLimits {
  const asked: AskedLimits = {};
  const logical = block(values, "logical-block-size", LOGICAL_BLOCK_MAX);
  const physical = block(values, "physical-block-size", PHYSICAL_BLOCK_MAX);
  if (logical !== undefined) asked.logicalBlock = logical;
  if (physical !== undefined) asked.physicalBlock = physical;
  if (values["rotational"] === true) asked.rotational = true;
  return asked;
}

function block(values: OptionValues, name: string, max: number): number | undefined {
  const text = values[name];
  if (typeof text !== "string") return undefined;
  const size = parseSize(`--${name}`, text);
  if (size >= SECTOR && size <= max && Number.isInteger(Math.log2(size))) return size;
  throw new UsageError(`--${name} '${text}': give a power of two from ${SECTOR} to ${max}`);
}

/** "0-1/2,3": the CPUs of queue 0, then those of queue 1. A queue without keeps the driver's. */
export function parseAffinity(text: string, queues: number): number[][] {
  const sets = text.split("/").map((set) => parseCpuSet("--queue-affinity", set));
  if (sets.length <= queues) return sets;
  throw new UsageError(
    `--queue-affinity '${text}': ${sets.length} sets for ${queues} queues; see -q`,
  );
}
