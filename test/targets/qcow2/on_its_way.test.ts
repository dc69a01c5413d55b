/** A table that is still on its way to the file, held there: who may be answered meanwhile. */

import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { WRITE as WRITE_SQE } from "../../sim/disk.ts";
import { Platter } from "../../sim/platter.ts";
import { type Asked, KiB, POISON, SECTOR, World } from "../../sim/world.ts";
import { OP_DISCARD, OP_WRITE, OP_WRITE_ZEROES } from "../../../src/target/target.ts";
import { openChain } from "../../../targets/qcow2/chain.ts";
import { Engine } from "../../../targets/qcow2/engine.ts";
import { PlatterFile } from "./platter_file.ts";
import { hasQemu, must } from "./qemu.ts";
import { headerOf, readAll } from "./reference.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

const folder = tempFolder(MEMORY);
const CLUSTER = 64 * KiB;
const SIZE = 16 * CLUSTER;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;

/** An image whose first cluster is full of sevens. */
function filled(): Platter {
  const path = folder("image.qcow2");
  must(["qemu-img", "create", "-q", "-f", "qcow2", path, String(SIZE)]);
  must(["qemu-io", "-f", "qcow2", "-c", `write -P 7 0 ${CLUSTER}`, path]);
  return platterOf(path);
}

/** An image with a data file, of which the last cluster is written, over a raw file of sevens. */
function overlay(): Platter[] {
  const [path, data, base] = [folder("over.qcow2"), folder("over.data"), folder("base.raw")];
  writeFileSync(base, new Uint8Array(SIZE).fill(7));
  const options = `data_file=${data},backing_file=${base},backing_fmt=raw`;
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, String(SIZE)]);
  must(["qemu-io", "-f", "qcow2", "-c", `write -P 1 ${SIZE - CLUSTER} ${CLUSTER}`, path]);
  return [path, data, base].map(platterOf);
}

function platterOf(path: string): Platter {
  const bytes = new Uint8Array(readFileSync(path));
  const platter = new Platter(bytes.length, bytes.length + SIZE);
  platter.write(0, bytes);
  platter.sync(platter.time);
  return platter;
}

const all = (platter: Platter): Uint8Array => platter.read(0, platter.size);

function firstL2Table(bytes: Uint8Array): number {
  const entries = new DataView(bytes.buffer, bytes.byteOffset);
  return Number(entries.getBigUint64(headerOf(bytes).l1Offset) & OFFSET_MASK);
}

/** `platters`: the files of a chain, in the order in which they are opened. */
function serve(platters: Platter[]): World {
  let opened = 0;
  const world = new World({
    seed: 1,
    sqesPerSlot: 16,
    disks: platters.length,
    attach: (context) => {
      const chain = openChain("image", false, () => new PlatterFile(platters[opened++]!));
      const engine = new Engine(chain, { readOnly: false, cacheSize: 256 * KiB }, context);
      return { queueIo: (io) => engine.queueIo(io), runIo: (io) => engine.runIo(io) };
    },
  });
  for (const [index, platter] of platters.entries()) world.disks[index]!.platter = platter;
  return world;
}

/** Keeps every write to this cluster from the file, until what it answers is called. */
function holdWrites(world: World, cluster: number): () => void {
  const submit = world.disk.submit.bind(world.disk);
  const held: Parameters<typeof submit>[] = [];
  world.disk.submit = (sqe, done) => {
    const inside = sqe.offset >= cluster && sqe.offset < cluster + CLUSTER;
    if (sqe.opcode === WRITE_SQE && inside) held.push([sqe, done]);
    else submit(sqe, done);
  };
  return () => {
    expect(held.length).toBeGreaterThan(0);
    world.disk.submit = submit;
    for (const [sqe, done] of held) submit(sqe, done);
  };
}

/** What happens one after the other, each when nothing else can happen by itself. */
function inTurn(world: World, ...acts: (() => void)[]): void {
  world.whenQuiet = () => {
    const act = acts.shift();
    act?.();
    return act !== undefined || world.stopOnce();
  };
  expect(world.run()).toBe(0);
}

interface Held {
  platter: Platter;
  ask(op: number, sector: number, sectors: number): Asked;
  /** Tells acts in turn; the table arrives after the last. */
  tell(...acts: (() => void)[]): void;
}

function heldTable(platters = [filled()]): Held {
  const platter = platters[0]!;
  const world = serve(platters);
  const release = holdWrites(world, firstL2Table(all(platter)));
  return {
    platter,
    ask: (op, sector, sectors) => world.ask({ op, flags: 0, sector, sectors }),
    tell: (...acts) => inTurn(world, ...acts, release),
  };
}

const testQemu = test.skipIf(!hasQemu);
const IN_CLUSTER = CLUSTER / SECTOR;

testQemu("zeros that only memory shows are not answered before the file has them", () => {
  const { platter, ask, tell } = heldTable();
  const discard = ask(OP_DISCARD, 0, IN_CLUSTER);
  let zeroes: Asked | undefined;
  tell(
    () => void (zeroes = ask(OP_WRITE_ZEROES, 0, 8)),
    () => {
      // A server that is killed now leaves this, and nobody was told otherwise.
      expect(readAll(all(platter))[0]).toBe(7);
      expect(zeroes!.result).toBeUndefined();
    },
  );
  expect([discard.result, zeroes!.result]).toEqual([0, 0]);
  expect(
    readAll(all(platter))
      .subarray(0, 8 * SECTOR)
      .every((byte) => byte === 0),
  ).toBe(true);
});

testQemu("zeros in a data file are not answered before the file has the entry for them", () => {
  const platters = overlay();
  const { platter, ask, tell } = heldTable(platters);
  const entry = firstL2Table(all(platter));
  const isMapped = (): boolean =>
    all(platter)
      .subarray(entry, entry + 8)
      .some((byte) => byte > 0);
  const write = ask(OP_WRITE, 0, 8);
  let zeroes: Asked | undefined;
  tell(
    () => void (zeroes = ask(OP_WRITE_ZEROES, 0, 8)),
    () => {
      // A server that is killed now leaves the backing file's sevens, and nobody was told of zeros.
      expect(isMapped()).toBe(false);
      expect([write.result, zeroes!.result]).toEqual([undefined, undefined]);
    },
  );
  expect([write.result, zeroes!.result]).toEqual([0, 0]);
  expect(isMapped()).toBe(true);
  const data = platters[1]!.read(0, CLUSTER);
  expect(data.subarray(0, 8 * SECTOR).every((byte) => byte === 0)).toBe(true);
  expect(data.subarray(8 * SECTOR).every((byte) => byte === 7)).toBe(true);
});

testQemu("a write to a cluster that only memory knows is not answered before the file does", () => {
  const { platter, ask, tell } = heldTable();
  const first = ask(OP_WRITE, IN_CLUSTER, 8);
  let second: Asked | undefined;
  tell(
    () => void (second = ask(OP_WRITE, IN_CLUSTER + 8, 8)),
    () => {
      expect(readAll(all(platter))[CLUSTER]).toBe(0);
      expect([first.result, second!.result]).toEqual([undefined, undefined]);
    },
  );
  expect([first.result, second!.result]).toEqual([0, 0]);
  const written = readAll(all(platter)).subarray(CLUSTER, CLUSTER + 16 * SECTOR);
  expect(written.every((byte) => byte === POISON)).toBe(true);
});
