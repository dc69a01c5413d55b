/** THREAD entry: ring + ios + commands + handlers → Loop.run(). */

import { wordsAt } from "../ffi/arena.ts";
import { errorFacts, SysError } from "../ffi/errno.ts";
import { KernelRing } from "../ffi/kernel_ring.ts";
import * as libc from "../ffi/libc.ts";
import { targets } from "../targets/index.ts";
import { type LogLevel, Trickle } from "./control/log.ts";
import type { ThreadMessage, ThreadPlan } from "./control/threads.ts";
import { assemble } from "./queue/assemble.ts";
import type { QueueIo } from "./queue/io.ts";
import { Loop } from "./queue/loop.ts";
import { Tally } from "./queue/tally.ts";
import { THREAD_AREA } from "./target/counters.ts";
import { OP_NAMES } from "./target/target.ts";

declare const self: Worker;

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
  const target = await targets[plan.target]!();
  settle(plan);
  const { ring, ios, spare, commands, allocate, free } = assemble(plan.shape);
  const runnable: QueueIo[] = [];
  const trickle = new Trickle((line) => log("error", line));
  const handlers = target.attach(plan.config, plan.disk, {
    runnable,
    allocate,
    secret: plan.secret,
    recovering: plan.recovering,
    log: (line) => trickle.say(line),
  });
  const complain = (error: unknown, io: QueueIo): void => trickle.say(threw(error, io));
  const tally = new Tally(ios.length, wordsAt(plan.countersAddress, THREAD_AREA));
  const loop = new Loop(ring, [...ios, spare], commands, handlers, runnable, complain, tally, {
    io: spare,
    swaps,
    resized: (failure) => say({ kind: "resized", failure }),
  });
  say({ kind: "ready", tid: libc.gettid(), ringFd: ring instanceof KernelRing ? ring.fd : -1 });
  handlers.begin?.();
  const failure = loop.run();
  trickle.flush();
  if (ring instanceof KernelRing) hearOut(ring);
  // After a failure requests may still be in flight: a target must not think that all is quiet.
  if (failure === 0) handlers.close?.();
  // The driver lets go of the device only when the ring is closed.
  ring.close();
  free();
  if (failure < 0) throw new SysError({ op: "queue", errno: -failure, subject: plan.name });
}

/**
 * Takes the aborts that are still coming. A ring that is closed while the driver goes through its
 * tags makes the kernel complain (ublk_uring_cmd_cancel_fn in ublk_drv.c, seen on 7.2), and tags
 * that were committed under QUIESCE_DEV are never aborted; so silence is what tells the end.
 */
function hearOut(ring: KernelRing): void {
  while (ring.waitFor(SILENCE_MS)) {
    for (let ready = ring.cqReady(); ready > 0; ready--) ring.cqAdvance();
  }
}

const SILENCE_MS = 100;

function log(level: LogLevel, line: string): void {
  say({ kind: "log", level, line });
}

function threw(error: unknown, { op, offset, length }: QueueIo): string {
  const request = `${OP_NAMES[op] ?? `operation ${op}`} of ${length} bytes at ${offset}`;
  return `${request} failed, its handler threw ${error instanceof Error ? error.stack : String(error)}`;
}

/** Name, CPUs, and the promise not to wait for IO when memory is short. */
function settle(plan: ThreadPlan): void {
  Bun.gc(true); // helper threads that this starts would inherit the CPUs
  libc.setThreadName(plan.name);
  bestEffort("cannot bind to the queue's CPUs", () => libc.schedSetaffinity(plan.cpus));
  bestEffort("may wait for its own IO when memory is short", libc.setIoFlusher);
}

/**
 * Memory is short when pages go out. Then everybody waits for us, holding what the kernel keeps for
 * emergencies of IO, and we wait for memory: seen on 6.12 as a guest that never moved again.
 */
function swaps(): void {
  bestEffort("is swap, and may wait for memory that only swapping makes", libc.goFirst);
}

function bestEffort(otherwise: string, action: () => void): void {
  try {
    action();
  } catch (error) {
    log("warn", `${otherwise}: ${error instanceof Error ? error.message : error}`);
  }
}
