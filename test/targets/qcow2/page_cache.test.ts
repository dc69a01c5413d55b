/** Which pages of an image its server leaves in the page cache: direct writes pay for each. */

import { dlopen, FFIType, ptr } from "bun:ffi";
import { expect, test } from "bun:test";
import { closeSync, fsyncSync, openSync, statfsSync, statSync } from "node:fs";
import * as libc from "../../../ffi/libc.ts";
import { OP_FLUSH, OP_READ, OP_WRITE } from "../../../src/target/target.ts";
import { tempFolder } from "../../temp.ts";
import { hasQemu, must } from "./qemu.ts";
import { type Request, Rig } from "./rig.ts";

const folder = tempFolder();
const TMPFS_MAGIC = 0x01021994;
/** Files in memory are nothing but cached pages. */
const hasDisk = statfsSync(folder(".")).type !== TMPFS_MAGIC;
const PAGE = 4096;
const MiB = 1 << 20;
let made = 0;

const { symbols } = dlopen("libc.so.6", {
  mincore: { args: [FFIType.u64, FFIType.u64, FFIType.ptr], returns: FFIType.i32 },
});

function cachedPages(path: string): number {
  const { size } = statSync(path);
  const fd = openSync(path, "r");
  const address = libc.mmap(size, libc.PROT_READ, libc.MAP_SHARED, fd, 0);
  const pages = new Uint8Array(Math.ceil(size / PAGE));
  const answer = symbols.mincore(address, size, ptr(pages));
  libc.munmap(address, size);
  closeSync(fd);
  expect(answer).toBe(0);
  return pages.reduce((sum, page) => sum + (page & 1), 0);
}

/** 16 MiB of data in a disk of 1 GiB; on the disk, as after a while. */
function image(name: string): string {
  const path = folder(name);
  must(["qemu-img", "create", "-q", "-f", "qcow2", path, "1G"]);
  must(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 16M", path]);
  const fd = openSync(path, "r+");
  fsyncSync(fd);
  closeSync(fd);
  return path;
}

const request = (op: number, offset: number): Request => ({
  op,
  offset,
  length: op === OP_FLUSH ? 0 : PAGE,
  ...(op === OP_WRITE ? { bytes: new Uint8Array(PAGE).fill(9) } : {}),
});

test.skipIf(!hasQemu || !hasDisk)("with direct IO no table stays in the page cache", () => {
  const path = image("direct.qcow2");
  const rig = new Rig(path, { direct: true });
  const run = (op: number, offset: number): void => {
    expect(rig.run([request(op, offset)])[0]!.result).toBeGreaterThanOrEqual(0);
  };
  run(OP_READ, 0);
  expect(cachedPages(path)).toBe(0);
  run(OP_WRITE, MiB);
  run(OP_READ, MiB);
  expect(cachedPages(path)).toBe(0);
  // A new table is written through the page cache, and is dirty there until a FLUSH.
  run(OP_WRITE, 900 * MiB);
  expect(cachedPages(path)).toBeGreaterThan(0);
  run(OP_FLUSH, 0);
  expect(cachedPages(path)).toBe(0);
  rig.close();
  must(["qemu-io", "-f", "qcow2", "-r", "-c", "read -P 9 900M 4K", path]);
});

test.skipIf(!hasQemu || !hasDisk).each([
  ["without direct IO", {}],
  ["where nothing is written", { direct: true, readOnly: true }],
])("%s the page cache is left alone", (_, how) => {
  const path = image(`cached${made++}.qcow2`);
  const rig = new Rig(path, how);
  rig.run([request(OP_READ, 0)]);
  rig.run([request(OP_FLUSH, 0)]);
  expect(cachedPages(path)).toBeGreaterThan(0);
  rig.close();
});
