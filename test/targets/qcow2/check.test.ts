/** `ublk check` sees what qemu-img check sees, and what it repairs is clean to both. */

import { expect, setDefaultTimeout, test } from "bun:test";
import {
  closeSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { Random } from "../../sim/random.ts";
import { retelling, seedsToTell } from "../../sim/seeds.ts";
import { qcow2Tools } from "../../../targets/qcow2/tools.ts";
import target from "../../../targets/qcow2/target.ts";
import { chooseShape, createImage, qemuFill } from "./images.ts";
import { check, contents, hasQemu, must, qemuIo } from "./qemu.ts";
import { headerOf } from "./reference.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

const PATH = import.meta.path;
const SMOKE = 8;
// Other programs run, on a machine that may be busy.
setDefaultTimeout(60_000);
const folder = tempFolder(MEMORY);
const testQemu = test.skipIf(!hasQemu);
const seeds = seedsToTell(SMOKE);

function imageOf(name: string, random: Random): string {
  const path = folder(name);
  const shape = { ...chooseShape(random), dataFile: "none" as const };
  createImage(path, shape, random);
  qemuFill(path, shape, random, 8);
  if (shape.snapshots > 0) must(["qemu-img", "snapshot", "-c", "s", path]);
  return path;
}

/** Changes bytes of the first refcount block that count clusters inside the file. */
function spoilCounts(path: string, random: Random): void {
  const header = headerOf(new Uint8Array(readFileSync(path)));
  const fd = openSync(path, "r+");
  const entry = new Uint8Array(8);
  readSync(fd, entry, 0, 8, header.refcountTableOffset);
  const block = Number(new DataView(entry.buffer).getBigUint64(0));
  const clusters = Math.floor(fstatSync(fd).size / header.clusterSize);
  const counting = Math.max(1, Math.floor((clusters * 2 ** header.refcountOrder) / 8));
  for (let times = 1 + random.int(5); times > 0; times--) {
    const byte = Uint8Array.of(random.pick([0, 1, 2, 3, 0x11, 0xff]));
    writeSync(fd, byte, 0, 1, block + random.int(Math.min(counting, header.clusterSize)));
  }
  closeSync(fd);
}

testQemu(
  "spoiled refcounts are seen and put right",
  () => {
    for (const seed of seeds) {
      retelling(seed, PATH, () => {
        const random = new Random(seed);
        const path = imageOf(`spoiled${seed}`, random);
        const before = contents(path);
        spoilCounts(path, random);
        const found = qcow2Tools.check(path, { repair: undefined });
        const judged = check(path);
        expect([found.status, ...found.lines, judged.output]).toContain(judged.status);
        const repaired = qcow2Tools.check(path, { repair: "all" });
        expect(repaired.lines).toContain("no errors");
        expect(repaired.status).toBe(0);
        expect(check(path)).toMatchObject({ status: 0 });
        expect(contents(path).equals(before)).toBe(true);
      });
    }
  },
  120_000,
);

/** Ways of spoiling an entry of an L2 table, in clusters of `clusterSize`. */
const SPOILERS: ((entry: bigint, clusterSize: bigint) => bigint)[] = [
  (entry) => entry ^ (1n << 63n),
  (entry, clusterSize) => entry + clusterSize,
  (entry) => entry + (1n << 40n),
  () => 0n,
  (entry) => entry ^ (1n << 57n),
  (entry) => entry ^ 0x200n,
];

/** Changes one entry of one L2 table, or bit 63 of the L1 entry that leads there. */
function spoilMapping(path: string, random: Random): void {
  const bytes = new Uint8Array(readFileSync(path));
  const header = headerOf(bytes);
  const view = new DataView(bytes.buffer);
  const entries = Array.from({ length: header.l1Size }, (_, index) => header.l1Offset + index * 8);
  const used = entries.filter((at) => view.getBigUint64(at) !== 0n);
  if (used.length === 0) return;
  const l1At = random.pick(used);
  const table = Number(view.getBigUint64(l1At) & 0x00fffffffffffe00n);
  const entrySize = header.extendedL2 ? 16 : 8;
  const places: number[] = [];
  for (let at = table; at < table + header.clusterSize; at += entrySize) {
    if (view.getBigUint64(at) !== 0n) places.push(at);
  }
  if (places.length === 0 || random.chance(0.15)) {
    view.setBigUint64(l1At, view.getBigUint64(l1At) ^ (1n << 63n));
  } else {
    const at = random.pick(places);
    const spoiled = random.pick(SPOILERS)(view.getBigUint64(at), BigInt(header.clusterSize));
    view.setBigUint64(at, spoiled);
    if (spoiled === 0n && header.extendedL2) view.setBigUint64(at + 8, 0n);
  }
  writeFileSync(path, bytes);
}

testQemu("tables that lie are judged as qemu-img judges them", () => {
  for (const seed of seeds) {
    retelling(seed, PATH, () => {
      const random = new Random(seed);
      const path = imageOf(`lies${seed}`, random);
      spoilMapping(path, random);
      const found = qcow2Tools.check(path, { repair: undefined });
      const judged = check(path);
      expect(found.status, [...found.lines, judged.output].join("\n")).toBe(judged.status);
    });
  }
});

testQemu("leaks are given back, and nothing else is touched", () => {
  const path = folder("leaks");
  must(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"]);
  qemuIo(path, ["write -P 1 0 256k"]);
  const header = headerOf(new Uint8Array(readFileSync(path)));
  const fd = openSync(path, "r+");
  writeSync(fd, Uint8Array.of(0, 1), 0, 2, 2 * header.clusterSize + 2 * 30);
  closeSync(fd);
  truncateSync(path, 31 * header.clusterSize);
  expect(qcow2Tools.check(path, { repair: undefined })).toMatchObject({ status: 3 });
  expect(qcow2Tools.check(path, { repair: "leaks" })).toMatchObject({ status: 0 });
  expect(check(path)).toMatchObject({ status: 0 });
});

testQemu("an image that lost its refcount blocks gets new ones", () => {
  const path = folder("lost");
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "64M"]);
  qemuIo(path, ["write -P 1 0 20M", "write -c -P 2 30M 4k"]);
  const before = contents(path);
  const header = headerOf(new Uint8Array(readFileSync(path)));
  const fd = openSync(path, "r+");
  writeSync(fd, new Uint8Array(24), 0, 24, header.refcountTableOffset);
  closeSync(fd);
  expect(qcow2Tools.check(path, { repair: undefined })).toMatchObject({ status: 2 });
  expect(qcow2Tools.check(path, { repair: "all" })).toMatchObject({ status: 0 });
  expect(check(path)).toMatchObject({ status: 0 });
  expect(contents(path).equals(before)).toBe(true);
});

testQemu("a dirty image has its refcounts counted anew before it is written to", () => {
  const path = folder("dirty");
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, "4M"]);
  // Ends without putting anything in order.
  Bun.spawnSync(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", "-c", "abort", path]);
  expect(headerOf(new Uint8Array(readFileSync(path))).incompatible & 1).toBe(1);
  const config = { backing_file: path, cache_size: 1 << 20, key_file: "", buffered_io: false };
  target.open({ ...config, read_only: true }).close();
  expect(headerOf(new Uint8Array(readFileSync(path))).incompatible & 1).toBe(1);
  target.open({ ...config, read_only: false }).close();
  expect(headerOf(new Uint8Array(readFileSync(path))).incompatible & 1).toBe(0);
  expect(check(path)).toMatchObject({ status: 0 });
  expect(
    contents(path)
      .subarray(0, 1 << 20)
      .every((byte) => byte === 7),
  ).toBe(true);
});

/** One image each that qemu-img calls corrupt, or does not open. */
function expectCorrupt(path: string, line: string): void {
  const { status, lines } = qcow2Tools.check(path, { repair: undefined });
  expect(lines.join("\n")).toContain(line);
  expect(status).toBe(2);
  expect([1, 2]).toContain(check(path).status);
}

function change(path: string, how: (view: DataView, bytes: Buffer) => void): void {
  const bytes = readFileSync(path);
  how(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), bytes);
  writeFileSync(path, bytes);
}

const OFFSET = 0x00ff_ffff_ffff_fe00n;

function create(name: string, ...options: string[]): string {
  const path = folder(name);
  must(["qemu-img", "create", "-q", "-f", "qcow2", ...options, path, "8M"]);
  qemuIo(path, ["write -P 1 0 1M"]);
  return path;
}

testQemu("an entry of the refcount table with bit 63 is an error, and makes new blocks", () => {
  for (const entry of ["of a block", "of nothing"]) {
    const path = create(`table-${entry.length}`);
    change(path, (view) => {
      const at = Number(view.getBigUint64(48)) + (entry === "of nothing" ? 8 : 0);
      view.setBigUint64(at, view.getBigUint64(at) | (1n << 63n));
    });
    expectCorrupt(path, "of the refcount table cannot be right");
    expect(qcow2Tools.check(path, { repair: "all" })).toMatchObject({ status: 0 });
    expect(check(path)).toMatchObject({ status: 0 });
  }
});

testQemu("an entry of an external data file without bit 63 is an error, and is put right", () => {
  const path = create("external", "-o", `data_file=${folder("external.data")}`);
  change(path, (view) => {
    const l2 = Number(view.getBigUint64(Number(view.getBigUint64(40))) & OFFSET);
    view.setBigUint64(l2 + 8, view.getBigUint64(l2 + 8) & OFFSET);
  });
  expectCorrupt(path, "bit 63 is clear, and data is external");
  expect(qcow2Tools.check(path, { repair: "all" })).toMatchObject({ status: 0 });
  expect(check(path)).toMatchObject({ status: 0 });
});

testQemu("a snapshot of version 3 that does not say how large its disk is is an error", () => {
  const path = create("snapshot", "-o", "compat=0.10");
  must(["qemu-img", "snapshot", "-c", "s", path]);
  change(path, (view, bytes) => {
    const at = Number(view.getBigUint64(64));
    const names = view.getUint16(at + 12) + view.getUint16(at + 14);
    const extra = view.getUint32(at + 36);
    bytes.copyWithin(at + 40, at + 40 + extra, at + 40 + extra + names);
    view.setUint32(at + 36, 0);
  });
  expect(qcow2Tools.check(path, { repair: undefined })).toMatchObject({ status: 0 });
  change(path, (view, bytes) => {
    bytes.fill(0, 72, 512);
    view.setUint32(4, 3);
    view.setUint32(96, 4);
    view.setUint32(100, 104);
  });
  expectCorrupt(path, "snapshot 1 does not say how large its disk is");
});

testQemu.each([
  ["reserved flags are set, 0x8", 15, 8],
  ["its type is 2, not 1", 16, 2],
  ["its granularity is 2^8 bytes", 17, 8],
  ["its granularity is 2^60 bytes", 17, 60],
])("a bitmap of which %s is an error", (line, at, value) => {
  const path = create(`bitmap${at}-${value}`);
  must(["qemu-img", "bitmap", "--add", path, "some-name"]);
  change(path, (_, bytes) => void (bytes[bytes.lastIndexOf("some-name") - 24 + at] = value));
  expectCorrupt(path, `bitmap 'some-name': ${line}`);
});
