/** Images that get another size while they are served, beside what qemu makes of the same. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { SysError } from "../../../src/target/file_io.ts";
import { OP_FLUSH, OP_WRITE, OP_WRITE_ZEROES } from "../../../src/target/target.ts";
import target from "../../../targets/qcow2/target.ts";
import { Random } from "../../sim/random.ts";
import { retelling, seedsToTell } from "../../sim/seeds.ts";
import { MEMORY, tempFolder, thrown } from "../../temp.ts";
import { chooseRange, chooseShape, createImage, qemuFill, type Shape } from "./images.ts";
import { check, contents, hasQemu, must } from "./qemu.ts";
import { headerOf } from "./reference.ts";
import { type Request, Rig } from "./rig.ts";

setDefaultTimeout(120_000);
const testQemu = test.skipIf(!hasQemu);
const folder = tempFolder(MEMORY);
const SECTOR = 512;
const KiB = 1024;
const MiB = KiB * KiB;
let made = 0;

const sizeOf = (path: string): number =>
  (JSON.parse(must(["qemu-img", "info", "--output=json", path])) as { "virtual-size": number })[
    "virtual-size"
  ];

/** Serves it, gives it the size, beside some writes, and lets go of it. */
function resize(path: string, size: number, requests: Request[] = []): void {
  const rig = new Rig(path);
  expect(rig.resize(size, requests), rig.log.join("; ")).toBe(0);
  rig.close();
  expect(rig.log).toEqual([]);
}

function expectSound(path: string): void {
  const { status, output } = check(path);
  expect(status, output).toBe(0);
}

function create(size: string, ...options: string[]): string {
  const path = folder(`resize${made++}.qcow2`);
  must(["qemu-img", "create", "-q", "-f", "qcow2", ...options, path, size]);
  return path;
}

const writeAt = (offset: number, length: number, value: number): Request => {
  return { op: OP_WRITE, offset, length, bytes: new Uint8Array(length).fill(value) };
};

testQemu.each([
  ["stays where it is", "64K", "1M", 64],
  ["moves to one cluster", "4M", "64M", 4],
  ["moves to several clusters", "1M", "512M", 4],
  ["is longer than any row of clusters that a block counts", "1M", "2G", 0.5],
  ["is as long as the format allows", "1M", "128G", 0.5],
])("an L1 table that %s: the disk is there, old and new", (_, from, to, clusterKiB) => {
  const path = create(from, "-o", `cluster_size=${clusterKiB * KiB}`);
  const bytes = { K: KiB, M: MiB, G: KiB * MiB }[to.at(-1)!]! * Number.parseInt(to, 10);
  const rig = new Rig(path);
  rig.run([writeAt(0, 8192, 7)]);
  expect(rig.resize(bytes, [writeAt(16384, 8192, 8)])).toBe(0);
  rig.run([writeAt(bytes - 8192, 8192, 9), { op: OP_FLUSH, offset: 0, length: 0 }]);
  expect(rig.read(bytes - 12288, 12288)).toEqual(
    Buffer.concat([Buffer.alloc(4096), Buffer.alloc(8192, 9)]),
  );
  rig.close();
  expect(rig.log).toEqual([]);
  expect(sizeOf(path)).toBe(bytes);
  expectSound(path);
  const again = new Rig(path);
  expect(again.read(0, 24576)).toEqual(
    Buffer.concat([Buffer.alloc(8192, 7), Buffer.alloc(8192), Buffer.alloc(8192, 8)]),
  );
  again.close();
});

testQemu("what a longer backing file has does not show in the new part", () => {
  for (const compat of ["1.1", "0.10"]) {
    const base = create("1M");
    must(["qemu-io", "-f", "qcow2", "-c", "write -P 0xbb 0 1M", base]);
    const size = String(100 * KiB);
    const path = create(size, "-o", `compat=${compat}`, "-b", base, "-F", "qcow2");
    const copy = `${path}.qemu`;
    copyFileSync(path, copy);
    // The last cluster is half the disk's: what is written there brings the rest of it along.
    resize(path, 512 * KiB, [writeAt(96 * KiB, 1024, 1)]);
    resize(path, 2 * MiB);
    expectSound(path);
    if (compat === "1.1") {
      // qemu itself cannot do it with version 2, which has no entry that says "zeros".
      must(["qemu-io", "-f", "qcow2", "-c", "write -P 1 96k 1k", copy]);
      must(["qemu-img", "resize", "-q", copy, "2M"]);
      expect(contents(path).equals(contents(copy))).toBe(true);
    }
    expect(
      contents(path)
        .subarray(0, 96 * KiB)
        .every((byte) => byte === 0xbb),
    ).toBe(true);
    expect(
      contents(path)
        .subarray(100 * KiB)
        .every((byte) => byte === 0),
    ).toBe(true);
  }
});

testQemu("what was behind the end of a disk that shrank does not come back", () => {
  const path = create("8M", "-o", "cluster_size=4096");
  const rig = new Rig(path);
  rig.run([writeAt(0, MiB, 1), writeAt(3 * MiB, MiB, 3), writeAt(7 * MiB, MiB, 7)]);
  const end = 3 * MiB + 5 * KiB;
  expect(rig.resize(end)).toBe(0);
  expect(rig.resize(8 * MiB)).toBe(0);
  expect(rig.read(3 * MiB, 5 * MiB)).toEqual(
    Buffer.concat([Buffer.alloc(5 * KiB, 3), Buffer.alloc(5 * MiB - 5 * KiB)]),
  );
  rig.close();
  expectSound(path);
});

testQemu("the state of a virtual machine behind the end is no part of a disk that grows", () => {
  for (const size of ["4M", "600M"]) {
    const path = create(size);
    // qemu puts it behind the disk, from the next L2 table on.
    must(["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 64k", "-c", "write -b -P 5 0 128k", path]);
    const rig = new Rig(path);
    expect(rig.resize(4096 * MiB)).toBe(0);
    const at = Math.ceil(rig.size / (512 * MiB)) * 512 * MiB;
    expect(rig.read(at, 128 * KiB).every((byte) => byte === 0)).toBe(true);
    rig.close();
    expect(rig.log).toEqual([]);
    expectSound(path);
  }
});

testQemu("nor does it from an external data file, with or without a backing file", () => {
  for (const backing of [[], ["-b", create("1M"), "-F", "qcow2"]]) {
    const data = folder(`grown${made}.data`);
    const path = create(String(256 * KiB), "-o", `data_file=${data}`, ...backing);
    must(["qemu-io", "-f", "qcow2", "-c", "write -P 0x55 0 256k", path]);
    const rig = new Rig(path);
    // The second time, the last cluster is one that the first time left half in use.
    for (const size of [100 * KiB, 50 * KiB, 256 * KiB]) expect(rig.resize(size)).toBe(0);
    rig.close();
    expectSound(path);
    const bytes = contents(path);
    expect(bytes.subarray(0, 50 * KiB).every((byte) => byte === 0x55)).toBe(true);
    expect(bytes.subarray(50 * KiB).every((byte) => byte === 0)).toBe(true);
  }
});

testQemu("an external data file keeps its holes behind the end of a disk that shrinks", () => {
  const data = folder(`holes${made}.data`);
  const path = create("8M", "-o", `data_file=${data}`, "-b", create("8M"), "-F", "qcow2");
  must(["qemu-io", "-f", "qcow2", "-c", "write -P 0x55 7M 64k", path]);
  resize(path, MiB);
  expect(statSync(data).blocks).toBeLessThan(100); // qemu itself leaves a page there
});

const seeds = seedsToTell(12);

testQemu(
  "an image of any kind has the contents that qemu gives it",
  () => {
    for (const seed of seeds) retelling(seed, import.meta.path, (chosen) => compare(chosen));
  },
  Math.max(120_000, seeds.length * 10_000),
);

function compare(seed: number): void {
  const random = new Random(seed);
  const shape = { ...chooseShape(random), lazy: false };
  if (shape.dataFile === "raw" || (shape.version === 2 && shape.snapshots > 0)) return;
  const path = folder(`${seed}.qcow2`);
  createImage(path, shape, random);
  qemuFill(path, shape, random, random.int(6));
  for (let one = 0; one < shape.snapshots; one++)
    must(["qemu-img", "snapshot", "-c", `s${one}`, path]);
  const shrinks = random.chance(0.4) && !(shape.version === 2 && shape.backing !== "none");
  const size = shrinks
    ? SECTOR * (1 + random.int(shape.size / SECTOR))
    : shape.size + SECTOR * random.int((shape.clusterSize * 300) / SECTOR);
  const before = contents(path);
  resize(
    path,
    size,
    Array.from({ length: random.int(5) }, () => rewrite(random, shape, before)),
  );
  const { status, output } = check(path);
  // A request that comes for what is gone by then may leave clusters that nobody uses.
  expect(shrinks ? [0, 3] : [0], output).toContain(status);
  expect(sizeOf(path)).toBe(size);
  const after = Buffer.alloc(size);
  before.copy(after);
  expect(contents(path).equals(after), `${JSON.stringify(shape)} to ${size}`).toBe(true);
}

/** Beside a resize: the same bytes again, so that the contents stay. */
function rewrite(random: Random, shape: Shape, before: Buffer): Request {
  const { offset, length: most } = chooseRange(random, shape);
  const length = Math.min(most, 128 * KiB);
  return { op: OP_WRITE, offset, length, bytes: before.subarray(offset, offset + length) };
}

testQemu("what cannot be resized is refused by name, before anything is changed", () => {
  const refusal = (path: string, from: number, to: number, readOnly = false): string => {
    const common = { buffered_io: false, cache_size: MiB, key_file: "" };
    const { resizer, close } = target.open({ backing_file: path, read_only: readOnly, ...common });
    const error = thrown(() => resizer!.check(from, to, 512));
    close();
    if (!(error instanceof SysError)) throw error;
    return error.message;
  };
  const plain = create("1M");
  expect(refusal(plain, MiB, 2 * MiB, true)).toContain("is open read-only");
  expect(refusal(plain, MiB, 2 ** 52)).toContain("holds 2251799813685248 bytes at the most");
  must(["qemu-img", "bitmap", "--add", plain, "b"]);
  expect(refusal(plain, MiB, 2 * MiB)).toContain("has 1 bitmaps");
  const old = create("1M", "-o", "compat=0.10");
  must(["qemu-img", "snapshot", "-c", "s", old]);
  expect(refusal(old, MiB, 2 * MiB)).toContain("is of version 2, whose snapshots");
  const over = create("1M", "-o", "compat=0.10", "-b", plain, "-F", "qcow2");
  expect(refusal(over, MiB, MiB / 2)).toContain("cannot hide what its backing file has");
  const raw = create("1M", "-o", `data_file=${folder("raw.data")},data_file_raw=on`);
  expect(refusal(raw, MiB, 2 * MiB)).toContain("external data file as a raw image");
});

testQemu("a disk that could not be made smaller is whole again with its old size", () => {
  const path = create("8M");
  const rig = new Rig(path);
  rig.run([writeAt(0, 8192, 1), writeAt(7 * MiB, 8192, 2), { op: OP_FLUSH, offset: 0, length: 0 }]);
  rig.close();
  // An entry behind the new end that cannot be right.
  const bytes = readFileSync(path);
  const l2 = Number(bytes.readBigUInt64BE(headerOf(bytes).l1Offset) & 0xfffffffffffe00n);
  bytes.writeBigUInt64BE((1n << 63n) | 1n | (1n << 60n), l2 + 8 * 100);
  writeFileSync(path, bytes);
  const again = new Rig(path);
  expect(again.resize(4 * MiB)).toBeLessThan(0);
  expect(again.resize(8 * MiB)).toBe(0);
  const end = 8 * MiB - 4096;
  expect(again.run([writeAt(end, 4096, 3)]).map(({ result }) => result)).toEqual([4096]);
  expect([...again.read(end, 4096)].every((byte) => byte === 3)).toBe(true);
  again.close();
});

testQemu("what is written behind the old end stays, though zeros up to there are under way", () => {
  // In steps of one slice, 128 clusters; the disk ends inside of the last one.
  const path = create(String(64 * MiB + 512), "-o", "cluster_size=1k,preallocation=metadata");
  const rig = new Rig(path, { depth: 2 });
  const old = 64 * MiB + 512;
  const zeroes: Request = { op: OP_WRITE_ZEROES, offset: 0, length: old };
  // Each is refused until the disk has grown; what comes between gives that time.
  const behind = Array.from({ length: 300 }, () => [
    { op: OP_FLUSH, offset: 0, length: 0 },
    writeAt(old, 512, 7),
  ]);
  rig.resizeBeside(old + MiB - 512);
  const answers = rig.run([zeroes, ...behind.flat()]);
  expect(answers.filter(({ result }) => result === 512).length).toBeGreaterThan(0);
  expect(rig.read(old, 512).every((byte) => byte === 7)).toBe(true);
  rig.close();
  expectSound(path);
});
