/** Handlers of the real targets, wired without opening anything. */

import loop from "../../targets/loop.ts";
import nullTarget from "../../targets/null.ts";
import type { Disk, Handlers, QueueContext } from "../../src/target/target.ts";

/** A disk whose facts nobody looks at: these targets' handlers go by their configuration. */
const SOME_DISK: Disk = {
  size: 0,
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
  threads: "any",
  report: {},
};

type Attach = (context: QueueContext) => Handlers;

export function loopAt(offset: number): Attach {
  const config = { backing_file: "/disk", offset, read_only: false, buffered_io: false };
  return (context) => loop.attach(config, SOME_DISK, context);
}

export const nullDisk: Attach = (context) =>
  nullTarget.attach({ size: 2 ** 30, fill: true }, SOME_DISK, context);
