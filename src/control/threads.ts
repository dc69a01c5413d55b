/** The Workers that serve the queues: what they are told, and what they say. */

import { EBUSY, EIO, type ErrorFacts, SysError } from "../../ffi/errno.ts";
import type { Disk } from "../target/target.ts";
import type { QueueShare, ThreadShape } from "../target/thread_shape.ts";
import type { LogLevel, WriteLine } from "./log.ts";

/** A queue as this process has it. */
export interface MappedQueue extends Omit<QueueShare, "firstTag" | "tagStep"> {
  /** cpu_set_t of the CPUs whose requests come here. */
  cpus: Uint8Array;
}

/** All that a Worker needs; it crosses to it as a structured clone. */
export interface ThreadPlan {
  /** At most 15 bytes, for ps and top. */
  name: string;
  target: string;
  config: unknown;
  /** What was typed at the terminal; in no file and in no command line. */
  secret?: string | undefined;
  /** The device is taken over from a server that is gone. */
  recovering: boolean;
  disk: Disk;
  cpus: Uint8Array;
  /** Where its counters are mapped; target/counters.ts says what is in them. */
  countersAddress: number;
  shape: ThreadShape;
}

/**
 * Deals queues to threads: whole ones, or, where there are more threads than queues, every n-th
 * tag of one.
 */
export function dealQueues(queues: MappedQueue[], threads: number): MappedQueueShares[] {
  const perQueue = Math.max(1, Math.floor(threads / queues.length));
  const count = Math.min(threads, queues.length * perQueue);
  const shares = Array.from({ length: count }, (): MappedQueueShares => ({ cpus: [], queues: [] }));
  for (let deal = 0; deal < queues.length * perQueue; deal++) {
    const { cpus, ...queue } = queues[deal % queues.length]!;
    const firstTag = Math.floor(deal / queues.length);
    if (firstTag >= queue.depth) continue;
    const share = shares[deal % count]!;
    share.cpus.push(cpus);
    share.queues.push({ ...queue, firstTag, tagStep: perQueue });
  }
  return shares.filter((share) => share.queues.length > 0);
}

export interface MappedQueueShares {
  cpus: Uint8Array[];
  queues: QueueShare[];
}

/** What a Worker says. `ready` comes before it blocks for good, `failed` instead of ending well. */
export type ThreadMessage =
  | { kind: "ready"; tid: number; ringFd: number }
  | { kind: "resized"; failure: number }
  | { kind: "log"; level: LogLevel; line: string }
  | { kind: "failed"; facts: ErrorFacts };

export interface Thread {
  /** Its thread id, once its first FETCHes are about to be submitted. */
  ready: Promise<number>;
  /** Resolves when the thread is gone, ring and all; rejects when it did not end well. */
  ended: Promise<void>;
  /**
   * The disk gets `size` bytes. Answers 0 or -errno; rejects when the thread ends instead. The loop
   * has one place for it and cannot tell who asked, so a second one is refused here.
   */
  resize(size: number): Promise<number>;
}

/** Tells the loop of a thread's ring that the disk gets another size. */
export type TellSize = (ringFd: number, size: number) => void;

/** `url`: the Worker's entry, which only the process's entry can name. */
export function startThread(url: string, plan: ThreadPlan, log: WriteLine, tell: TellSize): Thread {
  const worker = new Worker(url);
  const ready = Promise.withResolvers<number>();
  const ended = Promise.withResolvers<void>();
  let failure: SysError | undefined;
  let ringFd = -1;
  let resizing: PromiseWithResolvers<number> | undefined;
  worker.addEventListener("message", (event: MessageEvent<ThreadMessage>) => {
    const message = event.data;
    if (message.kind === "ready") {
      ringFd = message.ringFd;
      ready.resolve(message.tid);
    } else if (message.kind === "resized") {
      resizing?.resolve(message.failure);
      resizing = undefined;
    } else if (message.kind === "log") log(message.level, message.line);
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
    resizing?.reject(GONE);
    ringFd = -1;
    if (failure === undefined) ended.resolve();
    else ended.reject(failure);
  });
  worker.postMessage(plan);
  ready.promise.catch(() => {}); // whoever waits for `ended` hears of it too
  ended.promise.catch(() => {});
  const resize = async (size: number): Promise<number> => {
    if (ringFd < 0) throw GONE;
    if (resizing !== undefined) return -EBUSY;
    tell(ringFd, size);
    resizing = Promise.withResolvers<number>();
    return await resizing.promise;
  };
  return { ready: ready.promise, ended: ended.promise, resize };
}

const GONE = new SysError({ op: "queue thread", errno: EIO, reason: "has ended" });
