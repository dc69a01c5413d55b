/** ffi/struct.ts: a C struct as a table of offsets. */

import { expect, test } from "bun:test";
import { i32, member, struct, u16, u32, u64, u8 } from "../../ffi/struct.ts";

const inner = struct("inner", 8, { a: u8(0), b: u16(2), c: i32(4) });
const outer = struct("outer", 24, { head: u32(0), inner: member(4, inner), tail: u64(16) });

test("members are written where the table says, little endian", () => {
  const bytes = outer.encode({ head: 0x01020304, inner: { a: 5, b: 0x0607, c: -2 }, tail: 8n });
  expect([...bytes]).toEqual([
    ...[4, 3, 2, 1],
    ...[5, 0, 7, 6, 0xfe, 0xff, 0xff, 0xff],
    ...[0, 0, 0, 0],
    ...[8, 0, 0, 0, 0, 0, 0, 0],
  ]);
});

test("what is decoded is what was encoded", () => {
  const values = {
    head: 0xffffffff,
    inner: { a: 255, b: 65535, c: -(2 ** 31) },
    tail: 2n ** 64n - 1n,
  };
  expect(outer.decode(outer.encode(values))).toEqual(values);
});

test("members that are not named stay zero when encoding, and as they are when writing", () => {
  expect(inner.decode(inner.encode({ b: 1 }))).toEqual({ a: 0, b: 1, c: 0 });
  const bytes = inner.encode({ a: 1, b: 2, c: 3 });
  inner.write(new DataView(bytes.buffer), 0, { b: 9 });
  expect(inner.decode(bytes)).toEqual({ a: 1, b: 9, c: 3 });
});

test("a view into a larger buffer is decoded from its own beginning", () => {
  const bytes = new Uint8Array(32);
  bytes.set(inner.encode({ a: 7 }), 11);
  expect(inner.decode(bytes.subarray(11, 19)).a).toBe(7);
});

test("encoded bytes do not move when they are looked at: the kernel holds their address", () => {
  expect(inner.encode({}).buffer.byteLength).toBe(8);
});
