/** Refcount blocks and tables that fill up, and space that comes back. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { statSync } from "node:fs";
import { OP_DISCARD, OP_FLUSH, OP_WRITE } from "../../../src/target/target.ts";
import { qcow2Tools } from "../../../targets/qcow2/tools.ts";
import { check, contents, hasQemu, must } from "./qemu.ts";
import { type Request, Rig } from "./rig.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

// Other programs run, on a machine that may be busy.
setDefaultTimeout(60_000);
const folder = tempFolder(MEMORY);
const testQemu = test.skipIf(!hasQemu);
const MiB = 1 << 20;
const BLOCK = 64 << 10;

function create(name: string, options: string, size: string): string {
  const path = folder(name);
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, size]);
  return path;
}

function writeAll(rig: Rig): Buffer {
  const requests: Request[] = [];
  const model = Buffer.alloc(rig.size);
  for (let offset = 0; offset < rig.size; offset += BLOCK) {
    const bytes = model.subarray(offset, offset + BLOCK).fill(1 + ((offset / BLOCK) % 255));
    requests.push({ op: OP_WRITE, offset, length: bytes.length, bytes });
  }
  for (const answer of rig.run(requests)) expect(answer.result).toBeGreaterThan(0);
  return model;
}

for (const bits of [64, 32, 16, 1]) {
  testQemu(
    `512-byte clusters with ${bits}-bit refcounts outgrow their refcount table`,
    () => {
      const path = create(`grow${bits}`, `cluster_size=512,refcount_bits=${bits}`, "12M");
      const rig = new Rig(path, { depth: 8 });
      const model = writeAll(rig);
      expect(rig.log).toEqual([]);
      rig.close();
      expect(check(path)).toMatchObject({ status: 0 });
      expect(contents(path).equals(model)).toBe(true);
    },
    60_000,
  );
}

testQemu("what is discarded is given back and used again", () => {
  const path = create("discard", "cluster_size=64k", "32M");
  const rig = new Rig(path);
  writeAll(rig);
  const full = statSync(path);
  const discard = { op: OP_DISCARD, offset: 0, length: 16 * MiB };
  const flush = { op: OP_FLUSH, offset: 0, length: 0 };
  for (const request of [discard, flush]) expect(rig.run([request])[0]!.result).toBe(0);
  expect(statSync(path).blocks * 512).toBeLessThan(full.blocks * 512 - 15 * MiB);
  const model = writeAll(rig);
  rig.close();
  expect(statSync(path).size).toBeLessThanOrEqual(full.size);
  expect(check(path)).toMatchObject({ status: 0 });
  expect(contents(path).equals(model)).toBe(true);
});

testQemu("what is discarded last is free when the server has ended", () => {
  const path = create("last", "cluster_size=64k", "8M");
  const rig = new Rig(path);
  writeAll(rig);
  rig.run([{ op: OP_DISCARD, offset: 0, length: 8 * MiB }]);
  rig.close();
  expect(check(path)).toMatchObject({ status: 0 });
  expect(statSync(path).blocks * 512).toBeLessThan(MiB);
});

testQemu(
  "what was counted ahead is given back at the end, also of the server after one that was killed",
  () => {
    const path = create("ahead", "cluster_size=64k", "64M");
    const write = { op: OP_WRITE, offset: 0, length: 4096, bytes: new Uint8Array(4096).fill(1) };
    const closed = new Rig(path);
    closed.run([write]);
    closed.close();
    expect(check(path)).toMatchObject({ status: 0 });
    expect(statSync(path).size).toBeLessThan(MiB);
    const killed = new Rig(path);
    killed.run([{ ...write, offset: MiB }]);
    killed.kill();
    const leaks = qcow2Tools.check(path, { repair: undefined });
    expect(leaks).toMatchObject({ status: 3, json: { corruptions: 0 } });
    expect(leaks.json["leaks"]).toBeLessThan(MiB / BLOCK);
    const next = new Rig(path, { recovering: true });
    next.run([{ ...write, offset: 2 * MiB }]);
    next.close();
    expect(check(path)).toMatchObject({ status: 0 });
    expect(
      contents(path)
        .subarray(MiB, MiB + 4096)
        .every((byte) => byte === 1),
    ).toBe(true);
  },
);

testQemu("a write to new clusters waits for no barrier, and one over a backing file does", () => {
  const base = create("base", "cluster_size=64k", "64M");
  must(["qemu-io", "-f", "qcow2", "-c", "write -P 5 0 32M", base]);
  const path = create("over", `cluster_size=64k,backing_file=${base},backing_fmt=qcow2`, "64M");
  const rig = new Rig(path, { depth: 1 });
  const syncs = (from: number): number => {
    const before = rig.syncs;
    for (let at = from; at < from + 8 * BLOCK; at += BLOCK) {
      rig.run([{ op: OP_WRITE, offset: at, length: 4096, bytes: new Uint8Array(4096) }]);
    }
    return rig.syncs - before;
  };
  syncs(0); // its L2 table, and the reserve
  expect(syncs(8 * BLOCK)).toBeGreaterThanOrEqual(8);

  // One at the most, for the next ones that are counted ahead.
  expect(syncs(56 * MiB)).toBeLessThan(2);
  rig.close();
  expect(check(path)).toMatchObject({ status: 0 });
});
