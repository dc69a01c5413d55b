/** ffi/arena.ts: memory that stays where it is. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { totalmem } from "node:os";
import { Arena, PAGE_SIZE, roundUp, wordsAt } from "../../ffi/arena.ts";
import { memset } from "../../ffi/libc.ts";
import { isMapped } from "../mappings.ts";

test.each([
  [0, 4096, 0],
  [1, 4096, 4096],
  [4096, 4096, 4096],
  [4097, 4096, 8192],
  [98304, 4096, 98304],
])("%i rounded up to a multiple of %i is %i", (length, unit, rounded) => {
  expect(roundUp(length, unit)).toBe(rounded);
});

test("an arena is whole pages of zeros, aligned to them", () => {
  const arena = new Arena(5000);
  expect(arena.length).toBe(2 * PAGE_SIZE);
  expect(arena.address % PAGE_SIZE).toBe(0);
  expect(wordsAt(arena.address, arena.length).every((word) => word === 0)).toBe(true);
  arena.free();
});

test("words show what is written to the memory by whatever way", () => {
  const arena = new Arena(PAGE_SIZE);
  const words = wordsAt(arena.address + 8, 16);
  memset(arena.address + 12, 0xff, 4);
  expect([...words]).toEqual([0, -1, 0, 0]);
  arena.free();
});

test("a remote arena lies where nothing else does, and each elsewhere", () => {
  const arenas = [0, 1].map(() => new Arena(PAGE_SIZE, "remote"));
  const near = new Arena(PAGE_SIZE);
  for (const { address, length } of arenas) {
    expect(address).toBeWithin(2 ** 44, 2 ** 44 + 2 ** 32 * PAGE_SIZE);
    expect(Math.abs(address - near.address)).toBeGreaterThan(2 ** 40);
    const words = wordsAt(address, length);
    memset(address, 0xff, 4);
    expect([words[0], words[1]]).toEqual([-1, 0]);
  }
  expect(arenas[0]!.address).not.toBe(arenas[1]!.address);
  for (const arena of [...arenas, near]) arena.free();
});

test("a freed arena is unmapped", () => {
  const arena = new Arena(PAGE_SIZE * 3);
  const pages = [0, 1, 2].map((page) => arena.address + page * PAGE_SIZE);
  expect(pages.map(isMapped)).toEqual([true, true, true]);
  arena.free();
  expect(pages.map(isMapped)).toEqual([false, false, false]);
});

test("more can be mapped than there is memory", () => {
  const much = Math.ceil(totalmem() / 2 ** 30) * 2 ** 32;
  new Arena(much).free();
});

test("a large arena costs nothing until it is touched", () => {
  const resident = (): number =>
    Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))![1]);
  const before = resident();
  const arena = new Arena(2 ** 30);
  expect(resident() - before).toBeLessThan(64 * 1024);
  arena.free();
});
