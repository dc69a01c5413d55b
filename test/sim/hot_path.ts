/** Serves a million requests in a process of its own, whose collector is being listened to. */

import { Arena, wordsAt } from "../../ffi/arena.ts";
import { assemble } from "../../src/queue/assemble.ts";
import type { ThreadShape } from "../../src/target/thread_shape.ts";
import type { QueueIo } from "../../src/queue/io.ts";
import { Loop } from "../../src/queue/loop.ts";
import type { Handlers, QueueContext } from "../../src/target/target.ts";
import { StillRing } from "./still_ring.ts";
import { loopAt, nullDisk } from "./targets.ts";

const DEPTH = 64;
const IO_BYTES = 4096;
const IOD_SIZE = 24;
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
const iodsLength = DEPTH * IOD_SIZE;
const iodsAddress = new Arena(iodsLength).address;

function prepare(target: keyof typeof TARGETS, mode: ThreadShape["mode"], count: number): Loop {
  const iods = wordsAt(iodsAddress, iodsLength);
  const share = { queueId: 0, depth: DEPTH, firstTag: 0, tagStep: 1, iodsAddress, iodsLength };
  const shape = {
    ...{ mode, batch: false, userCopy: true, zeroCopyMin: 0, maxIoBytes: IO_BYTES, pollUs: 0 },
    ...{ queues: [share], files: [0, 1, 2] },
  };
  const makeRing = (entries: number): StillRing => new StillRing(entries, iods, count);
  const { ring, ios, commands, allocate } = assemble(shape, makeRing);
  const runnable: QueueIo[] = [];
  const handlers = TARGETS[target]({ runnable, allocate });
  const complain = (error: unknown): void => console.error(error);
  return new Loop(ring, ios, commands, handlers, runnable, complain);
}

const target = process.argv[2] as keyof typeof TARGETS;
const mode = process.argv[3] as ThreadShape["mode"];
prepare(target, mode, WARM).run();
const loop = prepare(target, mode, COUNT);
Bun.gc(true);
console.error("BEGIN");
const result = loop.run();
console.error("END");
Bun.gc(true);
process.exitCode = result === 0 ? 0 : 1;
