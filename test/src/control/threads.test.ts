/** src/control/threads.ts: how queues are dealt, and what becomes of a Worker. */

import { describe, expect, test } from "bun:test";
import { EBUSY, SysError } from "../../../ffi/errno.ts";
import {
  dealQueues,
  type MappedQueue,
  startThread,
  type TellSize,
  type ThreadPlan,
} from "../../../src/control/threads.ts";
import { diskOf } from "../../disks.ts";

const WORKER = new URL("./fixture_worker.ts", import.meta.url).href;

function queuesOf(count: number, depth: number): MappedQueue[] {
  return Array.from({ length: count }, (_, queueId) => ({
    queueId,
    depth,
    iodsAddress: 4096 * (queueId + 1),
    iodsLength: 4096,
    cpus: new Uint8Array([1 << queueId]),
  }));
}

describe("queues are dealt to threads so that", () => {
  const cases: [queues: number, depth: number, threads: number][] = [];
  for (const queues of [1, 2, 3, 5]) {
    for (const threads of [1, 2, 3, 4, 8, 64]) cases.push([queues, 4, threads]);
  }

  test.each(cases)("%i queues of %i tags and %i threads: each tag has one", (queues, depth, n) => {
    const shares = dealQueues(queuesOf(queues, depth), n);
    const served = shares.flatMap((share) =>
      share.queues.flatMap(({ queueId, firstTag, tagStep }) => {
        const tags = Array.from({ length: depth }, (_, tag) => tag);
        return tags
          .filter((tag) => tag >= firstTag && (tag - firstTag) % tagStep === 0)
          .map((tag) => `${queueId}.${tag}`);
      }),
    );
    expect(served).toHaveLength(queues * depth);
    expect(new Set(served).size).toBe(queues * depth);
    expect(shares.length).toBeLessThanOrEqual(n);
    expect(shares.every((share) => share.queues.length > 0)).toBe(true);
  });

  test("a thread has the CPUs of its queues", () => {
    const shares = dealQueues(queuesOf(4, 8), 2);
    expect(shares.map(({ cpus }) => cpus.map(([mask]) => mask))).toEqual([
      [1, 4],
      [2, 8],
    ]);
  });

  test("one queue for each thread stays whole", () => {
    const shares = dealQueues(queuesOf(2, 8), 2);
    for (const { queues } of shares) {
      expect(queues).toMatchObject([{ firstTag: 0, tagStep: 1 }]);
    }
  });
});

const PLAN: ThreadPlan = {
  name: "ublk0q0",
  target: "null",
  config: "",
  recovering: false,
  disk: diskOf(),
  cpus: new Uint8Array([1]),
  countersAddress: 0,
  shape: {
    ...{ mode: "copy", batch: false, userCopy: false, zeroCopyMin: 0, maxIoBytes: 4096 },
    ...{ pollUs: 0, queues: [], files: [] },
  },
};

describe("a Worker", () => {
  const start = (config: string, tell: TellSize = () => {}) => {
    const lines: string[] = [];
    const log = (level: string, line: string) => void lines.push(`${level}: ${line}`);
    return { lines, ...startThread(WORKER, { ...PLAN, config }, log, tell) };
  };
  const failure = async (promise: Promise<unknown>): Promise<SysError> => {
    const error: unknown = await promise.catch((e: unknown) => e);
    if (!(error instanceof SysError)) throw new Error(`no SysError but ${String(error)}`);
    return error;
  };

  test("that serves and leaves is ready, heard, and ends well", async () => {
    const { ready, ended, lines } = start("serve");
    expect(await ready).toBe(4711);
    await ended;
    expect(lines).toEqual(["info: served"]);
  });

  test("that fails before it is ready says why, with errno and hint", async () => {
    const { ready, ended } = start("fail before ready");
    const error = await failure(ready);
    expect(error.facts()).toEqual({ op: "mmap", errno: 12, hint: "buy memory" });
    expect(await failure(ended)).toBe(error);
  });

  test("that throws has its words repeated", async () => {
    const { ready, ended } = start("throw before ready");
    expect((await failure(ready)).message).toContain("ouch");
    expect((await failure(ended)).op).toBe("queue thread");
  });

  test("that leaves without a word is not waited for", async () => {
    const { ready } = start("leave before ready");
    expect((await failure(ready)).message).toContain("ended early");
  });

  test("that dies later has not ended well", async () => {
    const { ready, ended } = start("die");
    expect(await ready).toBe(4711);
    expect((await failure(ended)).message).toContain("died with 3");
  });

  test("is told one size at a time, and whoever comes in between is refused", async () => {
    const told: number[] = [];
    const { ready, resize } = start("resize", (_, size) => void told.push(size));
    await ready;
    const first = resize(4096);
    expect(await resize(8192)).toBe(-EBUSY);
    expect(await first).toBe(0);
    expect((await failure(resize(16384))).message).toContain("has ended");
    expect(told[0]).toBe(4096);
    expect(told).not.toContain(8192);
  });

  test("that fails later has not ended well", async () => {
    const { ready, ended } = start("fail");
    expect(await ready).toBe(4711);
    expect((await failure(ended)).op).toBe("queue");
  });
});
