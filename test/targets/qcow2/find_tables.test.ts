/** Nothing is written over a table, however wrong counts and entries are. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { OP_DISCARD, OP_FLUSH, OP_READ, OP_WRITE } from "../../../src/target/target.ts";
import target from "../../../targets/qcow2/target.ts";
import { check, contents, hasQemu, must, qemuIo } from "./qemu.ts";
import { headerOf } from "./reference.ts";
import { type Request, Rig } from "./rig.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

// Other programs run, on a machine that may be busy.
setDefaultTimeout(60_000);
const folder = tempFolder(MEMORY);
const testQemu = test.skipIf(!hasQemu);
const KiB = 1024;
const CLUSTER = 64 * KiB;
const OFFSET = 0x00ff_ffff_ffff_fe00n;
const EIO = -5;
const FLUSH = { op: OP_FLUSH, offset: 0, length: 0 };
let made = 0;

const PLACES = ["l1", "l2", "table", "block", "snapshots", "snapshotL1"] as const;
type Places = Record<(typeof PLACES)[number], number>;

/** An image with a snapshot, and its disk: 1 MiB of ones, the first cluster threes. */
function image(): string {
  const path = folder(`tables${made++}.qcow2`);
  must(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"]);
  qemuIo(path, ["write -P 1 0 1M"]);
  must(["qemu-img", "snapshot", "-c", "s", path]);
  qemuIo(path, ["write -P 3 0 64k"]);
  return path;
}

function change(path: string, how: (view: DataView, places: Places) => void): void {
  const bytes = new Uint8Array(readFileSync(path));
  const view = new DataView(bytes.buffer);
  const { l1Offset: l1, refcountTableOffset: table } = headerOf(bytes);
  const [l2, block] = [l1, table].map((at) => Number(view.getBigUint64(at) & OFFSET));
  const snapshots = Number(view.getBigUint64(64));
  const snapshotL1 = Number(view.getBigUint64(snapshots));
  how(view, { l1, l2: l2!, table, block: block!, snapshots, snapshotL1 });
  writeFileSync(path, bytes);
}

const write = (offset: number, length = CLUSTER): Request => {
  return { op: OP_WRITE, offset, length, bytes: new Uint8Array(length).fill(7) };
};

/** Serves it, and answers what became of the requests; what was there is there. */
function serve(path: string, ...requests: Request[]): { results: number[]; log: string[] } {
  const rig = new Rig(path);
  const results = rig.run(requests).map(({ result }) => result);
  expect(rig.read(0, CLUSTER).every((byte) => byte === 3)).toBe(true);
  expect(rig.read(CLUSTER, 15 * CLUSTER).every((byte) => byte === 1)).toBe(true);
  rig.close();
  return { results, log: rig.log };
}

describe("with a refcount of 0, it is not given to anybody else:", () => {
  testQemu.each(PLACES)("%s", (place) => {
    const path = image();
    change(path, (view, places) => view.setUint16(places.block + (places[place] / CLUSTER) * 2, 0));
    const spoilt = readFileSync(path);
    const { results, log } = serve(path, write(8 << 20));
    expect(results).toEqual([EIO]);
    expect(log).toHaveLength(1);
    expect(log[0]).toContain("is in use and its refcount is 0: NO WRITE IS ACCEPTED ANY MORE");
    expect(readFileSync(path).equals(spoilt)).toBe(true);
  });
});

describe("an entry that leads to it is no cluster of data:", () => {
  testQemu.each(PLACES)("%s", (place) => {
    const path = image();
    change(path, (view, places) => {
      view.setBigUint64(places.l2 + 32 * 8, (1n << 63n) | BigInt(places[place]));
    });
    const spoilt = readFileSync(path);
    const offset = 32 * CLUSTER;
    const read = { op: OP_READ, offset, length: CLUSTER };
    const { results, log } = serve(path, write(offset), read, write(offset, 512));
    expect(results).toEqual([EIO, EIO, EIO]);
    expect(log).toEqual([]);
    expect(readFileSync(path).equals(spoilt)).toBe(true);
  });
});

describe("a refcount table that leads to it ends all writing:", () => {
  testQemu.each(PLACES.filter((place) => place !== "block"))("%s", (place) => {
    const path = image();
    change(path, (view, places) => view.setBigUint64(places.table, BigInt(places[place])));
    const spoilt = readFileSync(path);
    const { results, log } = serve(path, write(0));
    expect(results).toEqual([EIO]);
    expect(log[0]).toContain("entry 0 of the refcount table leads to another table: NO WRITE");
    expect(readFileSync(path).equals(spoilt)).toBe(true);
  });
});

testQemu("an image whose snapshot table cannot be read is not written to", () => {
  const path = image();
  change(path, (view, { snapshots }) => view.setUint32(snapshots + 36, 2000));
  const config = { backing_file: path, cache_size: 1 << 20, key_file: "", buffered_io: false };
  expect(() => target.open({ ...config, read_only: false })).toThrow("2000 bytes of extra data");
  target.open({ ...config, read_only: true }).close();
});

testQemu("compressed data that lies in a table does not free it", () => {
  const path = image();
  const compressed = 1n << 62n;
  change(path, (view, { l2, block }) => {
    view.setBigUint64(l2 + 32 * 8, compressed | BigInt(block));
  });
  const rig = new Rig(path);
  rig.run([{ op: OP_DISCARD, offset: 32 * CLUSTER, length: CLUSTER }]);
  rig.run([FLUSH]);
  expect(rig.run([write(8 << 20)])[0]!.result).toBe(EIO);
  expect(rig.log[0]).toContain("is a table, and data as well: NO WRITE IS ACCEPTED ANY MORE");
  rig.close();
  expect(check(path).status).toBe(0);
  expect(
    contents(path)
      .subarray(CLUSTER, 16 * CLUSTER)
      .every((byte) => byte === 1),
  ).toBe(true);
});

testQemu("tables that come and go while the disk is written to are no hindrance", () => {
  const path = folder(`tables${made++}.qcow2`);
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "16M"]);
  const rig = new Rig(path, { depth: 4 });
  for (let round = 0; round < 3; round++) {
    const at = round * 97 * KiB;
    const requests = Array.from({ length: 60 }, (_, index) => write(at + index * 200 * KiB, 4096));
    const results = rig.run([...requests, FLUSH]).map(({ result }) => result);
    expect(results.filter((result) => result < 0)).toEqual([]);
    expect(rig.resize((8 + round) << 20)).toBe(0);
    expect(rig.run([FLUSH, FLUSH]).map(({ result }) => result)).toEqual([0, 0]);
    expect(rig.resize(16 << 20)).toBe(0);
  }
  rig.close();
  expect(rig.log).toEqual([]);
  expect(check(path).status).toBe(0);
});
