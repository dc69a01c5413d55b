/** What qemu writes we read the same; what we write qemu reads the same and finds clean. */

import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { Random } from "../../sim/random.ts";
import { retelling, seedsToTell } from "../../sim/seeds.ts";
import {
  FLAG_FUA,
  FLAG_NOUNMAP,
  OP_DISCARD,
  OP_FLUSH,
  OP_READ,
  OP_WRITE,
  OP_WRITE_ZEROES,
} from "../../../src/target/target.ts";
import {
  chooseRange,
  chooseShape,
  createImage,
  qemuFill,
  qemuWrites,
  SECTOR,
  type Shape,
} from "./images.ts";
import { check, contents, hasQemu, must, qemuIo } from "./qemu.ts";
import { checkImage } from "../../../targets/qcow2/check.ts";
import type { Findings } from "../../../targets/qcow2/findings.ts";
import { BytesFile, headerOf } from "./reference.ts";
import { type Request, Rig } from "./rig.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

const PATH = import.meta.path;
const SMOKE = 16;
const REQUEST_MAX = 1 << 20;
const folder = tempFolder(MEMORY);

const all = seedsToTell(SMOKE);
const testQemu = test.skipIf(!hasQemu);
const limit = Math.max(120_000, all.length * 6000);

testQemu(
  "images of every kind are the same to qemu and to us",
  () => {
    for (const seed of all) retelling(seed, PATH, oneImage);
  },
  limit,
);

function oneImage(seed: number): void {
  const random = new Random(seed);
  const shape = chooseShape(random);
  const place = folder(String(seed));
  mkdirSync(place);
  try {
    judge(`${place}/image.qcow2`, shape, random);
  } catch (error) {
    if (error instanceof Error) error.message += `\n${JSON.stringify(shape)}\n${place}`;
    throw error;
  }
  rmSync(place, { recursive: true });
}

function judge(path: string, shape: Shape, random: Random): void {
  createImage(path, shape, random);
  qemuFill(path, shape, random, 2 + random.int(10));
  const snapshots = new Map<string, Buffer>();
  for (let index = 0; index < shape.snapshots; index++) {
    snapshots.set(`s${index}`, contents(path));
    must(["qemu-img", "snapshot", "-c", `s${index}`, path]);
    qemuIo(path, qemuWrites(shape, random, random.int(4)));
  }
  if (check(path).status !== 0) throw new Error(`qemu's own work: ${check(path).output}`);
  const model = contents(path);
  const depth = random.pick([1, 4, 16]);
  const readOnly = new Rig(path, { readOnly: true, depth, cacheSize: smallCache(depth) });
  same(readOnly.read(0, model.length), model, "read before we wrote");
  readOnly.close();
  let killed = false;
  for (let rounds = 1 + random.int(2); rounds > 0; rounds--) {
    const direct = shape.clusterSize >= 4096 && random.chance(0.5);
    const how = { direct, depth, cacheSize: smallCache(depth), recovering: killed };
    const rig = new Rig(path, how);
    for (let batches = 2 + random.int(4); batches > 0; batches--)
      writeBatch(rig, shape, model, random);
    same(rig.read(0, model.length), model, "read what we wrote");
    // What a killed server had still to free is leaked until the end of the next one.
    killed = random.chance(0.2);
    if (killed) rig.kill();
    else rig.close();
    expect(rig.log).toEqual([]);
    const { status, output } = check(path);
    if (status !== 0 && !(killed && status === 3)) throw new Error(`check: ${status}\n${output}`);
    const found = ourCheck(path);
    if (found.corruptions > 0 || found.leaks > 0 !== (status === 3)) {
      throw new Error(`qemu-img check says ${status}, we say: ${found.messages.join("\n")}`);
    }
    same(contents(path), model, "qemu reads what we wrote");
  }
  for (const [name, before] of snapshots) {
    same(contents(path, name), before, `snapshot ${name} is as it was`);
  }
  if (shape.dataFile === "raw") {
    same(
      Buffer.from(Bun.mmap(`${path}.data`)).subarray(0, model.length),
      model,
      "the raw data file",
    );
  }
}

/** So small that slices come and go. */
const smallCache = (depth: number): number => 4096 * Math.max(16, depth * 8);

/** Requests that share clusters and tables and do not overlap, all under way together. */
function writeBatch(rig: Rig, shape: Shape, model: Buffer, random: Random): void {
  const requests: Request[] = [];
  for (let tries = 2 + random.int(30); tries > 0; tries--) {
    const { offset, length } = chooseRange(random, shape);
    const overlaps = (other: Request): boolean =>
      offset < other.offset + other.length && other.offset < offset + length;
    if (requests.some(overlaps)) continue;
    requests.push(chooseRequest(random, offset, length));
  }
  if (random.chance(0.3)) requests.push({ op: OP_FLUSH, offset: 0, length: 0 });
  const answers = rig.run(requests);
  requests.forEach((request, index) => {
    const { result, bytes } = answers[index]!;
    if (result < 0) throw new Error(`op ${request.op} at ${request.offset} failed with ${result}`);
    const part = model.subarray(request.offset, request.offset + request.length);
    if (request.op === OP_READ) same(bytes, part, "a READ beside others");
    if (request.op === OP_WRITE) part.set(request.bytes!);
    if (request.op === OP_WRITE_ZEROES) part.fill(0);
    if (request.op === OP_DISCARD) discarded(rig, request, part);
  });
}

/** Each sector is what it was, or zero; it stays what it is from then on. */
function discarded(rig: Rig, request: Request, part: Buffer): void {
  const now = Buffer.from(rig.read(request.offset, request.length));
  for (let at = 0; at < now.length; at += SECTOR) {
    const sector = now.subarray(at, at + SECTOR);
    if (sector.some((byte) => byte !== 0)) same(sector, part.subarray(at, at + SECTOR), "DISCARD");
  }
  part.set(now);
}

function chooseRequest(random: Random, offset: number, chosen: number): Request {
  const kind = random.int(10);
  const length = kind < 7 ? Math.min(chosen, REQUEST_MAX) : chosen;
  const flags = random.chance(0.1) ? FLAG_FUA : 0;
  if (kind < 5) {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at += SECTOR) bytes.fill(random.int(256), at, at + SECTOR);
    return { op: OP_WRITE, flags, offset, length, bytes };
  }
  if (kind < 7) return { op: OP_READ, offset, length };
  if (kind === 7) return { op: OP_DISCARD, offset, length };
  const keep = random.chance(0.5) ? FLAG_NOUNMAP : 0;
  return { op: OP_WRITE_ZEROES, flags: flags | keep, offset, length };
}

function ourCheck(path: string): Findings {
  const bytes = new Uint8Array(readFileSync(path));
  return checkImage(new BytesFile(bytes), headerOf(bytes));
}

function same(found: Uint8Array, wanted: Uint8Array, what: string): void {
  if (Buffer.compare(found, wanted) === 0) return;
  let at = 0;
  while (at < wanted.length && found[at] === wanted[at]) at++;
  const sizes = `${found.length} and ${wanted.length} bytes`;
  throw new Error(`${what}: differs at ${at}: ${found[at]}, not ${wanted[at]} (${sizes})`);
}
