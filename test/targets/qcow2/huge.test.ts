/** 1 TiB with all its tables: opened at once, read all over in little memory. */

import { expect, test } from "bun:test";
import { openSync, writeSync } from "node:fs";
import { Random } from "../../sim/random.ts";
import { OP_READ } from "../../../src/target/target.ts";
import target from "../../../targets/qcow2/target.ts";
import { tempFolder } from "../../temp.ts";
import { makeHugeImage, TIB } from "./huge.ts";
import { hasQemu, must } from "./qemu.ts";
import { Rig } from "./rig.ts";

const OPEN_MS = 200;
const CACHE = 8 << 20;
const READS = 3000;
const PAGE = 4096;
const folder = tempFolder();

test("an image of 1 TiB opens at once and is read all over with no more than its cache", () => {
  const path = folder("huge.qcow2");
  const dataAt = makeHugeImage(path);
  const mark = new Uint8Array(PAGE).fill(0x5a);
  const marked = [0, TIB / 2 + 3 * PAGE, TIB - PAGE];
  const fd = openSync(path, "r+");
  for (const offset of marked) writeSync(fd, mark, 0, PAGE, dataAt + offset);
  if (hasQemu) must(["qemu-io", "-r", "-f", "qcow2", ...reads(marked), path]);

  const config = { backing_file: path, read_only: false, buffered_io: false, key_file: "" };
  let began = performance.now();
  const open = target.open({ ...config, cache_size: CACHE });
  const opened = performance.now() - began;
  expect(open.disk.size).toBe(TIB);
  open.close();
  began = performance.now();
  const rig = new Rig(path, { cacheSize: CACHE, maxIoBytes: 1 << 16, depth: 32 });
  const attached = performance.now() - began;
  expect(opened + attached).toBeLessThan(OPEN_MS);

  const before = rig.allocated;
  for (const offset of marked) expect(rig.read(offset, PAGE)).toEqual(Buffer.from(mark));
  const random = new Random(1);
  const asked = Array.from({ length: READS }, () => random.int(TIB / PAGE) * PAGE);
  const answers = rig.run(asked.map((offset) => ({ op: OP_READ, offset, length: PAGE })));
  for (const { result } of answers) expect(result).toBe(PAGE);
  // Memory that reading asked for on its way: none.
  expect(rig.allocated).toBe(before);
  expect(rig.log).toEqual([]);
  rig.close();
});

const reads = (offsets: number[]): string[] =>
  offsets.flatMap((offset) => ["-c", `read -P 0x5a ${offset} ${PAGE}`]);
