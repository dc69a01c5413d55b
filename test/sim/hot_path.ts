/** Serves a million requests in a process of its own, whose collector is being listened to. */

import { openSync } from "node:fs";
import { Arena, wordsAt } from "../../ffi/arena.ts";
import { assemble } from "../../src/queue/assemble.ts";
import type { ThreadShape } from "../../src/target/thread_shape.ts";
import type { QueueIo } from "../../src/queue/io.ts";
import { Loop } from "../../src/queue/loop.ts";
import { DescriptorFile } from "../../src/target/file_io.ts";
import type { Handlers, QueueContext } from "../../src/target/target.ts";
import { openChain } from "../../targets/qcow2/chain.ts";
import { Engine } from "../../targets/qcow2/engine.ts";
import { StillRing } from "./still_ring.ts";
import { loopAt, nullDisk } from "./targets.ts";

const DEPTH = 64;
const SECTOR = 512;
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

/** Of an image whose clusters are all there. What takes a coroutine allocates one. */
function qcow2({ allocate, runnable }: QueueContext): Handlers {
  const chain = openChain(image, false, () => tables!);
  const options = { readOnly: false, cacheSize: 1 << 20, directFile: undefined };
  return new Engine(chain, options, { allocate, runnable });
}

const TARGETS = { loop: loopAt(0), null: nullDisk, wasteful, qcow2 };
const [target, mode, bytes, image = ""] = process.argv.slice(2) as [
  ...[keyof typeof TARGETS, ThreadShape["mode"], string, string?],
];
const length = Number(bytes);
const tables = image === "" ? undefined : new DescriptorFile(openSync(image, "r+"), image);
const iodsLength = DEPTH * IOD_SIZE;
const iodsAddress = new Arena(iodsLength).address;

function prepare(requests: number): Loop {
  const iods = wordsAt(iodsAddress, iodsLength);
  const share = { queueId: 0, depth: DEPTH, firstTag: 0, tagStep: 1, iodsAddress, iodsLength };
  const shape = {
    ...{ mode, batch: false, userCopy: true, zeroCopyMin: 0, maxIoBytes: length, pollUs: 0 },
    ...{ queues: [share], files: [0, 1, 2] },
  };
  const ops = tables === undefined ? 3 : 2; // a FLUSH of an image is a coroutine
  const still = { requests, ops, sectors: length / SECTOR, ...(tables && { tables }) };
  const makeRing = (entries: number): StillRing => new StillRing(entries, iods, still);
  const { ring, ios, commands, allocate } = assemble(shape, makeRing);
  const runnable: QueueIo[] = [];
  const handlers = TARGETS[target]({ runnable, allocate });
  const complain = (error: unknown): void => console.error(error);
  return new Loop(ring, ios, commands, handlers, runnable, complain);
}

prepare(WARM).run();
const loop = prepare(COUNT);
Bun.gc(true);
console.error("BEGIN");
const result = loop.run();
console.error("END");
Bun.gc(true);
process.exitCode = result === 0 ? 0 : 1;
