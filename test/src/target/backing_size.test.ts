/** src/target/backing_size.ts on files; stories do it to block devices. */

import { afterAll, expect, test } from "bun:test";
import { statSync } from "node:fs";
import { EFBIG } from "node:constants";
import { SysError } from "../../../ffi/errno.ts";
import * as libc from "../../../ffi/libc.ts";
import {
  backingSize,
  type BackingRange,
  checkBackingSize,
  setBackingSize,
} from "../../../src/target/backing_size.ts";
import { fileOf, tempFolder, thrown } from "../../temp.ts";

const folder = tempFolder();
const fds: number[] = [];
afterAll(() => fds.forEach((fd) => libc.close(fd)));

function rangeOf(size: number, facts: Partial<BackingRange> = {}): BackingRange {
  const path = fileOf(folder(`${fds.length}.img`), size);
  const fd = libc.open(path, libc.O_RDWR);
  fds.push(fd);
  return { fd, path, offset: 0, readOnly: false, ...facts };
}

const SECTOR = 512;

test("what a file has for its disk are whole blocks behind the offset", () => {
  expect(backingSize(rangeOf(10_000), SECTOR)).toBe(19 * 512);
  expect(backingSize(rangeOf(10_000, { offset: 512 }), 4096)).toBe(8192);
  expect(backingSize(rangeOf(512, { offset: 4096 }), SECTOR)).toBe(0);
});

test("a file ends where its disk does", () => {
  const range = rangeOf(8192, { offset: 4096 });
  checkBackingSize(range, 4096, 65536, SECTOR);
  setBackingSize(range, 65536, SECTOR);
  expect(statSync(range.path).size).toBe(4096 + 65536);
  checkBackingSize(range, 65536, 4096, SECTOR);
  setBackingSize(range, 4096, SECTOR);
  expect(statSync(range.path).size).toBe(8192);
});

test("a file that has more already is not cut so that the disk can grow", () => {
  const larger = rangeOf(1 << 20);
  const error = thrown(() => checkBackingSize(larger, 4096, 8192, SECTOR)) as SysError;
  expect(error.message).toContain("has 1048576 bytes for the disk already");
  expect(error.hint).toContain("without --size");
  checkBackingSize(rangeOf(1 << 20), 4096, 1 << 20, SECTOR);
});

test("what a file has behind the last whole block of the device is neither taken nor cut", () => {
  const range = rangeOf(8192 + 512);
  for (const from of [4096, 8192]) {
    checkBackingSize(range, from, 8192, 4096);
    setBackingSize(range, 8192, 4096);
    expect(statSync(range.path).size).toBe(8192 + 512);
  }
  const readOnly = rangeOf(8192 + 512, { readOnly: true });
  checkBackingSize(readOnly, 4096, 8192, 4096);
});

test("what is read-only follows what others made of it, and no more", () => {
  const range = rangeOf(1 << 20, { readOnly: true });
  checkBackingSize(range, 4096, 1 << 20, SECTOR);
  const error = thrown(() => checkBackingSize(range, 1 << 20, 4096, SECTOR)) as SysError;
  expect(error.message).toContain("is open read-only");
});

test("a disk does not grow to where file offsets end", () => {
  const range = rangeOf(8192, { offset: 4096 });
  checkBackingSize(range, 4096, 2 ** 52 - 4096, SECTOR);
  const error = thrown(() => checkBackingSize(range, 4096, 2 ** 52, SECTOR)) as SysError;
  expect(error.message).toContain("would end behind the 4 PiB that can be served");
});

test("a size that the file system cannot have is an error with its name", () => {
  const error = thrown(() => setBackingSize(rangeOf(512), 2 ** 51, SECTOR)) as SysError;
  expect(error).toBeInstanceOf(SysError);
  expect([error.op, error.errno]).toEqual(["ftruncate", EFBIG]);
});
