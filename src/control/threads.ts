/** The Workers that serve the queues: what they are told, and what they say. */

import { EIO, type ErrorFacts, SysError } from "../../ffi/errno.ts";
import type { Disk } from "../target/target.ts";

/** One queue, as the Worker that serves it is told of it. */
export interface QueuePlan {
  queueId: number;
  depth: number;
  /** Where this process has the queue's iods mapped. */
  iodsAddress: number;
  iodsLength: number;
  /** cpu_set_t of the CPUs whose requests come here. */
  cpus: Uint8Array;
}

/** All that a Worker needs; it crosses to it as a structured clone. */
export interface ThreadPlan {
  devId: number;
  target: string;
  config: unknown;
  disk: Disk;
  charFd: number;
  maxIoBytes: number;
  queues: QueuePlan[];
}

/** What a Worker says. `ready` comes before it blocks for good, `failed` instead of ending well. */
export type ThreadMessage =
  | { kind: "ready"; tid: number }
  | { kind: "log"; line: string }
  | { kind: "failed"; facts: ErrorFacts };

export interface Thread {
  /** Its thread id, once its first FETCHes are about to be submitted. */
  ready: Promise<number>;
  /** Resolves when the thread is gone, ring and all; rejects when it did not end well. */
  ended: Promise<void>;
}

export type Log = (line: string) => void;

/** `url`: the Worker's entry, which only the process's entry can name. */
export function startThread(url: string, plan: ThreadPlan, log: Log): Thread {
  const worker = new Worker(url);
  const ready = Promise.withResolvers<number>();
  const ended = Promise.withResolvers<void>();
  let failure: SysError | undefined;
  worker.addEventListener("message", (event: MessageEvent<ThreadMessage>) => {
    const message = event.data;
    if (message.kind === "ready") ready.resolve(message.tid);
    else if (message.kind === "log") log(message.line);
    else failure = new SysError(message.facts);
  });
  worker.addEventListener("error", (event) => {
    failure ??= new SysError({ op: "queue thread", errno: EIO, reason: event.message });
  });
  // A Worker that dies says nothing by itself; `close` comes whatever the reason was.
  worker.addEventListener("close", (event) => {
    const code = (event as CloseEvent).code;
    if (code !== 0) {
      failure ??= new SysError({ op: "queue thread", errno: EIO, reason: `died with ${code}` });
    }
    ready.reject(
      failure ?? new SysError({ op: "queue thread", errno: EIO, reason: "ended early" }),
    );
    if (failure === undefined) ended.resolve();
    else ended.reject(failure);
  });
  worker.postMessage(plan);
  ready.promise.catch(() => {}); // whoever waits for `ended` hears of it too
  ended.promise.catch(() => {});
  return { ready: ready.promise, ended: ended.promise };
}
