/** Handlers of the real targets, wired without opening anything. */

import { diskOf } from "../disks.ts";
import loop from "../../targets/loop.ts";
import nullTarget from "../../targets/null.ts";
import type { Handlers, QueueContext } from "../../src/target/target.ts";

type Attach = (context: QueueContext) => Handlers;

export function loopAt(offset: number): Attach {
  const config = { backing_file: "/disk", offset, read_only: false, buffered_io: false };
  return (context) => loop.attach(config, diskOf(), context);
}

export const nullDisk: Attach = (context) =>
  nullTarget.attach({ size: 2 ** 30, fill: true }, diskOf(), context);
