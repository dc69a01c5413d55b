/** Serves a million requests in a process of its own, whose collector is being listened to. */

import { Arena } from "../../ffi/arena.ts";
import { TagCommands } from "../../src/queue/commands.ts";
import type { QueueIo } from "../../src/queue/io.ts";
import { CopyIo } from "../../src/queue/io_copy.ts";
import { Loop } from "../../src/queue/loop.ts";
import { type Handlers, type QueueContext, ZEROES_MAX } from "../../src/target/target.ts";
import { StillRing } from "./still_ring.ts";
import { loopAt, nullDisk } from "./targets.ts";

const DEPTH = 64;
const IO_BYTES = 4096;
const WARM = 200_000;
const COUNT = 1_000_000;

const litter: unknown[] = [];

/** One small object a request: what the test must be able to see. */
function wasteful(context: QueueContext): Handlers {
  const { queueIo } = nullDisk(context);
  return {
    queueIo(io) {
      litter[io.offset & 7] = { at: io.offset };
      return queueIo(io);
    },
  };
}

const TARGETS = { loop: loopAt(0), null: nullDisk, wasteful };
const zeroes = new Arena(ZEROES_MAX);
const buffers = new Arena(DEPTH * IO_BYTES);

function prepare(attach: (context: QueueContext) => Handlers, count: number): Loop {
  const ring = new StillRing(DEPTH, count);
  const shared = { ring, reserved: DEPTH, zeroes: zeroes.address, zeroFile: 2 };
  const ios: QueueIo[] = [];
  for (let tag = 0; tag < DEPTH; tag++) {
    ios.push(new CopyIo(tag, 0, tag, shared, buffers.address + tag * IO_BYTES));
  }
  const runnable: QueueIo[] = [];
  const handlers = attach({ runnable, allocate: (length) => new Arena(length).address });
  const complain = (error: unknown): void => console.error(error);
  const loop = new Loop(
    ring,
    ios,
    new TagCommands(ring, ios, [ring.iods]),
    handlers,
    runnable,
    complain,
  );
  return loop;
}

const attach = TARGETS[process.argv[2] as keyof typeof TARGETS];
prepare(attach, WARM).run();
const loop = prepare(attach, COUNT);
Bun.gc(true);
console.error("BEGIN");
const result = loop.run();
console.error("END");
Bun.gc(true);
process.exitCode = result === 0 ? 0 : 1;
