/** ffi/kernel_ring.ts on this machine's own io_uring. */

import { afterAll, describe, expect, test } from "bun:test";
import { writeSync } from "node:fs";
import { constants } from "node:os";
import { Arena, wordsAt } from "../../ffi/arena.ts";
import { SysError } from "../../ffi/errno.ts";
import {
  IORING_OP_READ,
  IORING_OP_READ_FIXED,
  prepRw,
  setUserData,
  SQE_WORDS,
} from "../../ffi/io_uring.ts";
import { IORING_SETUP_SQE128, KernelRing } from "../../ffi/kernel_ring.ts";
import * as libc from "../../ffi/libc.ts";
import { fileOf, tempFolder, thrown } from "../temp.ts";

const { EBADF, EEXIST, EFAULT, EINVAL } = constants.errno;
const SIZE = 16;
const path = tempFolder();
const file = fileOf(path("file"), SIZE);
const buffer = new Arena(4096);
const words = wordsAt(buffer.address, buffer.length);
const UNKNOWN_FLAG = 1 << 30;
afterAll(() => buffer.free());

/** A ring over one file, closed when `use` is done. */
function withRing(entries: number, fd: number, use: (ring: KernelRing) => void): void {
  const ring = new KernelRing(entries);
  try {
    ring.registerFiles([fd]);
    use(ring);
  } finally {
    ring.close();
    libc.close(fd);
  }
}

/** Queues a read of 8 bytes that answers to `slot`. */
function queueRead(ring: KernelRing, slot: number): void {
  const sqe = ring.nextSqe();
  expect(sqe).toBeGreaterThanOrEqual(0);
  prepRw(ring.sqes, sqe, IORING_OP_READ, 0, 0, buffer.address, 8, 0, 0, 0);
  setUserData(ring.sqes, sqe, slot, 0x7ead);
}

/** Takes all completions that are ready: slots and results. */
function reap(ring: KernelRing): [slot: number, res: number][] {
  const reaped: [number, number][] = [];
  for (let ready = ring.cqReady(); ready > 0; ready--) {
    expect(ring.cqMeta()).toBe(0x7ead);
    reaped.push([ring.cqSlot(), ring.cqRes()]);
    ring.cqAdvance();
  }
  return reaped;
}

function counter(value: number): number {
  return libc.eventfd(value);
}

test("a read completes with its result, its bytes and its user data", () => {
  withRing(4, counter(5), (ring) => {
    queueRead(ring, 0x01020304);
    expect(ring.submitAndWait()).toBe(0);
    expect(reap(ring)).toEqual([[0x01020304, 8]]);
    expect([words[0], words[1]]).toEqual([5, 0]);
    expect(ring.cqReady()).toBe(0);
  });
});

test("waiting ends when its time is over, and the completion comes later", () => {
  const fd = counter(0);
  withRing(4, fd, (ring) => {
    queueRead(ring, 1);
    const begin = performance.now();
    expect(ring.waitFor(20)).toBe(false);
    expect(performance.now() - begin).toBeGreaterThan(15);
    writeSync(fd, new BigUint64Array([9n]));
    expect(ring.waitFor(900)).toBe(true);
    expect(reap(ring)).toEqual([[1, 8]]);
    expect(words[0]).toBe(9);
  });
});

test("more SQEs than the queue has places go out in between", () => {
  withRing(4, libc.open("/dev/zero", libc.O_RDONLY), (ring) => {
    const slots = Array.from({ length: ring.entries * 2 }, (_, slot) => slot);
    for (const slot of slots) queueRead(ring, slot);
    while (ring.cqReady() < slots.length) expect(ring.submitAndWait()).toBe(0);
    const found = reap(ring).map(([slot]) => slot);
    expect(found.toSorted((a, b) => a - b)).toEqual(slots);
  });
});

test("no completion is lost when more come than their queue holds", () => {
  withRing(4, libc.open("/dev/zero", libc.O_RDONLY), (ring) => {
    const found = new Set<number>();
    const count = ring.entries * 10;
    for (let slot = 0; slot < count; slot++) queueRead(ring, slot);
    while (found.size < count) {
      expect(ring.submitAndWait()).toBe(0);
      for (const [slot] of reap(ring)) found.add(slot);
    }
  });
});

test("many turns wrap every counter of a small ring", () => {
  withRing(2, libc.open("/dev/zero", libc.O_RDONLY), (ring) => {
    for (let turn = 0; turn < 1000; turn++) {
      queueRead(ring, turn);
      expect(ring.submitAndWait()).toBe(0);
      expect(reap(ring)).toEqual([[turn, 8]]);
    }
  });
});

test("reserved places are left to those who may take them", () => {
  withRing(4, libc.open("/dev/zero", libc.O_RDONLY), (ring) => {
    expect(ring.nextSqeKeeping(ring.entries)).toBe(-1);
    expect(ring.nextSqeKeeping(ring.entries - 1)).toBeGreaterThanOrEqual(0);
  });
});

test("nothing queued is submitted at no cost", () => {
  withRing(4, counter(0), (ring) => expect(ring.submit()).toBe(0));
});

describe("a chain of two, the first silent when it succeeds, completes once", () => {
  const LINK_SILENT = (1 << 2) | (1 << 6);
  const NO_FILE = 9;

  /** Reads 8 bytes, then 8 more; a file that is not registered makes a link fail. */
  function chain(firstFile: number, firstLength: number, lastFile: number): [number, number][] {
    let reaped: [number, number][] = [];
    withRing(8, libc.open(file, libc.O_RDONLY), (ring) => {
      const links = [
        [firstFile, firstLength, LINK_SILENT],
        [lastFile, 8, 0],
      ] as const;
      links.forEach(([fd, length, flags], slot) => {
        const sqe = ring.nextSqe();
        prepRw(ring.sqes, sqe, IORING_OP_READ, fd, 0, buffer.address, length, 0, 0, flags);
        setUserData(ring.sqes, sqe, slot, 0x7ead);
      });
      expect(ring.submitAndWait()).toBe(0);
      reaped = reap(ring);
      expect(ring.waitFor(5)).toBe(false);
    });
    return reaped;
  }

  test.each([
    ["both are done", [0, 8, 0], [[1, 8]]],
    ["the first fails", [NO_FILE, 8, 0], [[0, -EBADF]]],
    ["the first falls short", [0, 64, 0], [[0, SIZE]]],
    ["the last fails", [0, 8, NO_FILE], [[1, -EBADF]]],
  ] as const)("when %s", (_, [firstFile, firstLength, lastFile], completions) => {
    expect(chain(firstFile, firstLength, lastFile)).toEqual(completions.map(([a, b]) => [a, b]));
  });
});

test("a table of buffers is empty until somebody fills it", () => {
  withRing(4, libc.open(file, libc.O_RDONLY), (ring) => {
    ring.registerSparseBuffers(64);
    const sqe = ring.nextSqe();
    prepRw(ring.sqes, sqe, IORING_OP_READ_FIXED, 0, 0, 0, 8, 0, 63, 0);
    setUserData(ring.sqes, sqe, 5, 0x7ead);
    expect(ring.submitAndWait()).toBe(0);
    expect(reap(ring)).toEqual([[5, -EFAULT]]);
  });
});

test("buffers are given in groups, and one group once", () => {
  const ring = new KernelRing(4);
  const memory = new Arena(8192);
  ring.registerBufferRing(memory.address, 4, 0);
  ring.registerBufferRing(memory.address + 4096, 4, 1);
  const error = thrown(() => ring.registerBufferRing(memory.address, 4, 1)) as SysError;
  expect([error.op, error.errno]).toEqual(["io_uring_register PBUF_RING", EEXIST]);
  ring.close();
  memory.free();
});

test("SQEs of 128 bytes lie twice as far apart", () => {
  const ring = new KernelRing(4, [IORING_SETUP_SQE128]);
  const first = ring.nextSqe();
  expect(ring.nextSqe() - first).toBe(2 * SQE_WORDS);
  ring.close();
});

test("a kernel that does not know a flag is asked without it", () => {
  const ring = new KernelRing(4, [UNKNOWN_FLAG, 0]);
  expect(ring.entries).toBe(4);
  ring.close();
});

test("a ring or a file that the kernel refuses is an error with its name", () => {
  const setup = thrown(() => new KernelRing(4, [UNKNOWN_FLAG])) as SysError;
  expect([setup.op, setup.errno]).toEqual(["io_uring_setup", EINVAL]);
  const ring = new KernelRing(4);
  const files = thrown(() => ring.registerFiles([-7])) as SysError;
  expect([files.op, files.errno]).toEqual(["io_uring_register FILES", EBADF]);
  ring.close();
});

test("a closed ring leaves neither descriptor nor mapping", () => {
  const shown = async (): Promise<number> =>
    (await Bun.file("/proc/self/maps").text()).split("io_uring").length;
  return shown().then(async (before) => {
    new KernelRing(4).close();
    expect(await shown()).toBe(before);
  });
});
