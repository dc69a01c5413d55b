/** The loop target and what can go wrong with a file: one request, one fault, one answer. */

import { expect, test } from "bun:test";
import { FALLOCATE, FSYNC, WRITE as WRITE_SQE } from "./disk.ts";
import { READ, WRITE } from "./tags.ts";
import { EAGAIN, EIO, ENOSPC } from "./errno.ts";
import { FLUSH, FUA, NOUNMAP, SWAP, WRITE_ZEROES } from "./guest.ts";
import { loopAt } from "./targets.ts";
import { type Asked, KiB, MiB, SECTOR, World } from "./world.ts";

const DSYNC = 2;

function world(fileSize = MiB): World {
  return new World({ seed: 1, attach: loopAt(0), fileSize });
}

function read(w: World, offset: number, length: number): Asked {
  return w.ask({ op: READ, flags: 0, sector: offset / SECTOR, sectors: length / SECTOR });
}

function write(w: World, offset: number, length: number, flags = 0): Asked {
  const bytes = new Uint8Array(length).fill(0x77);
  return w.ask({ op: WRITE, flags, sector: offset / SECTOR, sectors: length / SECTOR, bytes });
}

test("a file that lost its end under us gives EIO, never made-up zeros", () => {
  const w = world();
  w.disk.platter.truncate(64 * KiB);
  const behind = read(w, 128 * KiB, 4 * KiB);
  const across = read(w, 60 * KiB, 8 * KiB);
  const before = read(w, 60 * KiB, 4 * KiB);
  expect(w.run()).toBe(0);
  expect([behind.result, across.result, before.result]).toEqual([-EIO, -EIO, 0]);
});

test("no space on one request reaches only that request", () => {
  const w = world();
  w.disk.verdict = (sqe) => (sqe.offset === 8 * KiB ? -ENOSPC : undefined);
  const asked = [0, 4, 8, 12].map((at) => write(w, at * KiB, 4 * KiB));
  w.run();
  expect(asked.map(({ result }) => result)).toEqual([0, 0, -ENOSPC, 0]);
});

test("a file that says for ever to try again is an error after a while", () => {
  const w = world();
  w.disk.verdict = () => -EAGAIN;
  const asked = read(w, 0, 4 * KiB);
  w.run();
  expect(asked.result).toBe(-EAGAIN);
  expect(w.disk.log.length).toBeLessThan(200);
});

test("a write to stable storage is one, and only where it was asked for", () => {
  const w = world();
  write(w, 0, 4 * KiB, FUA);
  write(w, 4 * KiB, 4 * KiB);
  w.run();
  const flags = w.disk.log.map(({ offset, opFlags }) => [offset, opFlags]);
  expect(flags.toSorted()).toEqual([
    [0, DSYNC],
    [4 * KiB, 0],
  ]);
});

test("that the disk is swap is told once, when a page is swapped and not before", () => {
  const w = world();
  write(w, 0, 4 * KiB);
  read(w, 0, 4 * KiB);
  w.run();
  expect(w.swapTold).toBe(0);
  const swap = world();
  for (const offset of [0, 4 * KiB, 8 * KiB]) write(swap, offset, 4 * KiB, SWAP);
  swap.run();
  expect(swap.swapTold).toBe(1);
});

test("a short write to stable storage stays one to its end", () => {
  const w = world();
  w.disk.verdict = (sqe) => (sqe.length > KiB ? KiB : undefined);
  const asked = write(w, 0, 4 * KiB, FUA);
  w.run();
  expect(asked.result).toBe(0);
  expect(w.disk.log.every(({ opFlags }) => opFlags === DSYNC)).toBe(true);
  expect(w.disk.platter.powerCut(w.random).read(0, 4 * KiB)).toEqual(asked.bytes);
});

test("what was flushed survives a power cut, what was not may be gone", () => {
  let lost = 0;
  for (let seed = 1; seed <= 20; seed++) {
    const w = new World({ seed, attach: loopAt(0) });
    const first = write(w, 0, 4 * KiB);
    let flushed: Asked | undefined;
    w.whenQuiet = () => {
      if (flushed !== undefined) return w.stopOnce();
      flushed = w.ask({ op: FLUSH, flags: 0, sector: 0, sectors: 0 });
      write(w, 8 * KiB, 4 * KiB);
      return true;
    };
    w.run();
    const after = w.disk.platter.powerCut(w.random);
    expect(flushed?.result).toBe(0);
    expect(after.read(0, 4 * KiB)).toEqual(first.bytes);
    if (after.read(8 * KiB, 4 * KiB).includes(0)) lost++;
  }
  expect(lost).toBeGreaterThan(0);
});

test("WRITE_ZEROES goes to the file system: a hole, or a kept range for NOUNMAP", () => {
  const w = world();
  w.ask({ op: WRITE_ZEROES, flags: 0, sector: 0, sectors: 8 });
  w.ask({ op: WRITE_ZEROES, flags: NOUNMAP, sector: 8, sectors: 8 });
  w.run();
  const modes = w.disk.log.map(({ opcode, offset, length }) => [opcode, offset, length]);
  expect(modes.toSorted()).toEqual([
    [FALLOCATE, 0, 3],
    [FALLOCATE, 4 * KiB, 0x11],
  ]);
});

test("WRITE_ZEROES that the file system cannot do is written out, whatever its length", () => {
  const w = world(8 * MiB);
  w.disk.canFallocate = false;
  w.disk.platter.write(0, new Uint8Array(8 * MiB).fill(0x55));
  const length = 3 * MiB + 4 * KiB;
  const asked = w.ask({ op: WRITE_ZEROES, flags: FUA, sector: 2, sectors: length / SECTOR });
  w.run();
  expect(asked.result).toBe(0);
  const { platter, log } = w.disk;
  expect(platter.read(0, KiB).every((byte) => byte === 0x55)).toBe(true);
  expect(Buffer.alloc(length).equals(platter.read(KiB, length))).toBe(true);
  expect(platter.read(KiB + length, KiB).every((byte) => byte === 0x55)).toBe(true);
  expect(Math.max(...log.filter((s) => s.opcode === WRITE_SQE).map((s) => s.length))).toBe(MiB);
  expect(log.at(-1)?.opcode).toBe(FSYNC);
});

test("WRITE_ZEROES that fails half-way is an error", () => {
  const w = world(4 * MiB);
  w.disk.canFallocate = false;
  w.disk.verdict = (sqe) =>
    sqe.opcode === WRITE_SQE && sqe.offset === 2 * MiB ? -ENOSPC : undefined;
  const asked = w.ask({ op: WRITE_ZEROES, flags: 0, sector: 0, sectors: (4 * MiB) / SECTOR });
  w.run();
  expect(asked.result).toBe(-ENOSPC);
  expect(w.disk.log.at(-1)?.offset).toBe(2 * MiB);
});
