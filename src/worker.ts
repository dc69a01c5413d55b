/** THREAD entry: ring + ios + commands + handlers → Loop.run(). */

import { Arena, wordsAt } from "../ffi/arena.ts";
import { errorFacts, SysError } from "../ffi/errno.ts";
import { KernelRing } from "../ffi/kernel_ring.ts";
import * as libc from "../ffi/libc.ts";
import { targets } from "../targets/index.ts";
import type { ThreadMessage, ThreadPlan } from "./control/threads.ts";
import { TagCommands } from "./queue/commands.ts";
import type { QueueIo } from "./queue/io.ts";
import { CopyIo } from "./queue/io_copy.ts";
import { Loop } from "./queue/loop.ts";
import { ZEROES_MAX } from "./target/target.ts";

declare const self: Worker;

/** Half of the submission queue is kept for commits, the other half is for targets. */
const SQES_PER_SLOT = 2;

const say = (message: ThreadMessage): void => self.postMessage(message);

self.addEventListener("message", async (event: MessageEvent<ThreadPlan>): Promise<void> => {
  try {
    await serve(event.data);
  } catch (error) {
    say({ kind: "failed", facts: errorFacts(error) });
  }
  process.exit(0);
});

/** Serves the plan's queues until the device stops. Blocks: no message is heard after `ready`. */
async function serve(plan: ThreadPlan): Promise<void> {
  const name = `ublk${plan.devId}q${plan.queues[0]?.queueId}`;
  const target = await targets[plan.target]!();
  settle(plan, name);
  const slots = plan.queues.reduce((sum, queue) => sum + queue.depth, 0);
  const ring = new KernelRing(slots * SQES_PER_SLOT);
  ring.registerFiles([plan.charFd, ...plan.disk.files]);
  const zeroes = new Arena(ZEROES_MAX);
  const shared = { ring, reserved: slots, zeroes: zeroes.address };
  const ios: QueueIo[] = [];
  const iods: Int32Array[] = [];
  const arenas: Arena[] = [zeroes];
  const allocate = (length: number): number => {
    const arena = new Arena(length);
    arenas.push(arena);
    return arena.address;
  };
  for (const queue of plan.queues) {
    iods[queue.queueId] = wordsAt(queue.iodsAddress, queue.iodsLength);
    // Not touched here: each page is backed by the first IO that needs it, on this CPU.
    const buffers = allocate(queue.depth * plan.maxIoBytes);
    for (let tag = 0; tag < queue.depth; tag++) {
      const address = buffers + tag * plan.maxIoBytes;
      ios.push(new CopyIo(ios.length, queue.queueId, tag, shared, address));
    }
  }
  const complain = (error: unknown): void => {
    say({ kind: "log", line: `a request failed: ${errorFacts(error).reason ?? String(error)}` });
  };
  const runnable: QueueIo[] = [];
  const handlers = target.attach(plan.config, plan.disk, { runnable, allocate });
  const loop = new Loop(ring, ios, new TagCommands(ring, iods), handlers, runnable, complain);
  loop.fetchAll();
  say({ kind: "ready", tid: libc.gettid() });
  const failure = loop.run();
  // The driver lets go of the device only when the ring is closed.
  ring.close();
  for (const arena of arenas) arena.free();
  if (failure < 0) throw new SysError({ op: "queue", errno: -failure, subject: name });
}

/** Name, CPUs, and the promise not to wait for IO when memory is short. */
function settle(plan: ThreadPlan, name: string): void {
  Bun.gc(true); // helper threads that this starts would inherit the CPUs
  libc.setThreadName(name);
  bestEffort("cannot bind to the queue's CPUs", () => {
    const mask = new Uint8Array(plan.queues[0]!.cpus.length);
    for (const queue of plan.queues) queue.cpus.forEach((byte, at) => (mask[at]! |= byte));
    libc.schedSetaffinity(mask);
  });
  bestEffort("may wait for its own IO when memory is short", () => {
    libc.prctl(libc.PR_SET_IO_FLUSHER, 1, "prctl PR_SET_IO_FLUSHER");
  });
}

function bestEffort(otherwise: string, action: () => void): void {
  try {
    action();
  } catch (error) {
    say({ kind: "log", line: `${otherwise}: ${error instanceof Error ? error.message : error}` });
  }
}
