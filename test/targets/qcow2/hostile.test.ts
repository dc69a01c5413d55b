/**
 * Images that lie. Whatever stands in them: no crash, no hang, no memory without bounds; an error
 * line that names the image, or IO errors.
 */

import { expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Random } from "../../sim/random.ts";
import { retelling, seedsToTell } from "../../sim/seeds.ts";
import { SysError } from "../../../src/target/file_io.ts";
import {
  OP_DISCARD,
  OP_FLUSH,
  OP_READ,
  OP_WRITE,
  OP_WRITE_ZEROES,
} from "../../../src/target/target.ts";
import { qcow2Tools } from "../../../targets/qcow2/tools.ts";
import { chooseRange, chooseShape, createImage, qemuFill, type Shape } from "./images.ts";
import { hasQemu, must, run } from "./qemu.ts";
import { headerOf } from "./reference.ts";
import { type Request, Rig } from "./rig.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

const PATH = import.meta.path;
const SMOKE = 3;
const LIES_PER_IMAGE = 25;
const MEMORY_MAX = 256 << 20;
const SECONDS_MAX = 20;
const folder = tempFolder(MEMORY);
const seeds = seedsToTell(SMOKE);
const count = { refused: 0, served: 0, failedRequests: 0, requests: 0, fenced: 0 };

test.skipIf(!hasQemu)(
  "an image that lies is refused in one line, or costs IO errors at the most",
  () => {
    for (const seed of seeds) retelling(seed, PATH, manyLies);
    console.log(`hostile images: ${JSON.stringify(count)}`);
    expect(count.refused).toBeGreaterThan(0);
    expect(count.failedRequests).toBeGreaterThan(0);
  },
  Math.max(60_000, seeds.length * 10_000),
);

function manyLies(seed: number): void {
  const random = new Random(seed);
  const shape: Shape = { ...chooseShape(random), dataFile: "none" };
  const path = folder(`${seed}.qcow2`);
  createImage(path, shape, random);
  qemuFill(path, shape, random, 10);
  for (let index = 0; index < shape.snapshots; index++) {
    must(["qemu-img", "snapshot", "-c", `s${index}`, path]);
  }
  if (shape.version === 3 && random.chance(0.3)) run(["qemu-img", "bitmap", "--add", path, "b"]);
  const honest = new Uint8Array(readFileSync(path));
  for (let index = 0; index < LIES_PER_IMAGE; index++) {
    const bytes = lie(honest, random);
    writeFileSync(path, bytes);
    const begin = performance.now();
    try {
      serve(path, shape, random);
      for (const repair of [undefined, "leaks", "all"] as const) judgeTools(path, repair);
    } catch (error) {
      if (error instanceof Error) error.message += `\nlie ${index}; the image is kept: ${path}`;
      throw error;
    }
    expect((performance.now() - begin) / 1000).toBeLessThan(SECONDS_MAX);
  }
  for (const name of [path, `${path}.base`, `${path}.base.base`]) {
    if (existsSync(name)) rmSync(name);
  }
}

function serve(path: string, shape: Shape, random: Random): void {
  let rig: Rig;
  try {
    rig = new Rig(path, { depth: 8, cacheSize: 256 << 10, readOnly: random.chance(0.2) });
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    expect(error.message).not.toContain("\n");
    count.refused++;
    return;
  }
  count.served++;
  expect(rig.allocated).toBeLessThan(MEMORY_MAX);
  const requests: Request[] = [];
  const sized = { ...shape, size: Math.min(rig.size, 1 << 40) };
  for (let index = 0; index < 60; index++) {
    const { offset, length } = chooseRange(
      random,
      random.chance(0.8) ? shapeWithin(shape, rig) : sized,
    );
    const op = random.pick([OP_READ, OP_READ, OP_WRITE, OP_WRITE, OP_DISCARD, OP_WRITE_ZEROES]);
    if (length <= 0) continue;
    const most = op === OP_READ || op === OP_WRITE ? Math.min(length, 1 << 20) : length;
    const bytes = op === OP_WRITE ? { bytes: new Uint8Array(most).fill(0x5a) } : {};
    requests.push({ op, offset, length: most, ...bytes });
  }
  requests.push({ op: OP_FLUSH, offset: 0, length: 0 });
  const answers = rig.run(requests);
  count.requests += answers.length;
  count.failedRequests += answers.filter(({ result }) => result < 0).length;
  expect(rig.log.length).toBeLessThan(2);
  count.fenced += rig.log.length;
  expect(rig.allocated).toBeLessThan(MEMORY_MAX);
  rig.close();
}

const shapeWithin = (shape: Shape, rig: Rig): Shape => ({
  ...shape,
  size: Math.min(shape.size, rig.size),
});

function judgeTools(path: string, repair: "leaks" | "all" | undefined): void {
  try {
    qcow2Tools.info(path);
    expect([0, 2, 3, 63]).toContain(qcow2Tools.check(path, { repair }).status);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    expect(error.message).not.toContain("\n");
  }
}

/** Places of the header: offset and length of its fields. */
const FIELDS = [
  ...[
    [4, 4],
    [8, 8],
    [16, 4],
    [20, 4],
    [24, 8],
    [32, 4],
    [36, 4],
    [40, 8],
    [48, 8],
    [56, 4],
  ],
  ...[
    [60, 4],
    [64, 8],
    [72, 8],
    [80, 8],
    [88, 8],
    [96, 4],
    [100, 4],
    [104, 1],
    [112, 4],
    [116, 4],
  ],
] as [number, number][];

function lie(honest: Uint8Array, random: Random): Uint8Array {
  const bytes = honest.slice();
  const view = new DataView(bytes.buffer);
  for (let times = 1 + random.int(4); times > 0; times--) {
    const kind = random.int(8);
    if (kind < 3) {
      const [at, length] = random.pick(FIELDS);
      if (at + length <= bytes.length) putLie(view, at, length, random, bytes.length);
    } else if (kind < 7) lieInTable(view, honest, random);
    else if (random.chance(0.3)) return bytes.slice(0, random.int(bytes.length));
    else bytes[random.int(bytes.length)] = random.int(256);
  }
  return bytes;
}

function lieInTable(view: DataView, honest: Uint8Array, random: Random): void {
  const header = headerOf(honest);
  const tables = [header.l1Offset, header.refcountTableOffset, header.snapshotsOffset];
  const l1Entry = header.l1Offset + random.int(header.l1Size) * 8;
  tables.push(...[l1Entry, header.refcountTableOffset].map((at) => offsetAt(honest, at)));
  const table = random.pick(tables);
  const near = random.chance(0.7) ? 16 : header.clusterSize / 8;
  const at = table + random.int(near) * 8;
  if (at + 8 <= view.byteLength) putLie(view, at, 8, random, view.byteLength);
}

function offsetAt(bytes: Uint8Array, at: number): number {
  const value = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at);
  return Number(value & 0x00fffffffffffe00n);
}

function putLie(view: DataView, at: number, length: number, random: Random, size: number): void {
  const values = [
    ...[0n, 1n, 2n, 0x7fn, 0xffn, 0x10000n, 0x7fffffffn, 0xffffffffn, 1n << 40n, 1n << 52n],
    ...[(1n << 63n) - 1n, (1n << 64n) - 1n, 1n << 63n, 1n << 62n, BigInt(size), BigInt(size - 1)],
    ...[
      (1n << 62n) | 0x50000n,
      (1n << 63n) | BigInt(random.int(size)),
      BigInt(random.int(16)) << 16n,
    ],
    BigInt(random.next()) * BigInt(random.next()),
    view.getUint8(at) === 0 ? 3n : BigInt(random.int(256)),
  ];
  const value = random.pick(values);
  if (length === 8) view.setBigUint64(at, BigInt.asUintN(64, value));
  else if (length === 4) view.setUint32(at, Number(BigInt.asUintN(32, value)));
  else view.setUint8(at, Number(BigInt.asUintN(8, value)));
}
