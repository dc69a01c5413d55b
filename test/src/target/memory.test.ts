/** src/target/memory.ts: one piece of memory, seen in several ways. */

import { expect, test } from "bun:test";
import { Arena } from "../../../ffi/arena.ts";
import { bytesAt, copyMemory, viewAt, zeroMemory } from "../../../src/target/memory.ts";

test("bytes, views, copies and zeros are of the same memory", () => {
  const { address } = new Arena(4096);
  const bytes = bytesAt(address, 16);
  viewAt(address + 4, 8).setUint32(0, 0x01020304, false);
  expect([...bytes.subarray(4, 8)]).toEqual([1, 2, 3, 4]);
  copyMemory(address + 12, address + 4, 4);
  expect([...bytes.subarray(12)]).toEqual([1, 2, 3, 4]);
  zeroMemory(address + 4, 6);
  expect([...bytes]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
});

test("odd lengths and odd places are no trouble", () => {
  const { address } = new Arena(4096);
  expect(bytesAt(address + 3, 7)).toHaveLength(7);
  expect(viewAt(address + 1, 5).byteLength).toBe(5);
});
