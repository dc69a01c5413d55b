/**
 * Power cuts at every point of a story: what is left is a consistent image, and what FLUSH or FUA
 * promised is in it.
 *
 * The disk keeps, of each sector, every version since it was last made durable; a cut leaves any
 * one of them, for each sector on its own, and may leave a sector torn between two of them.
 */

import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { Platter } from "../../sim/platter.ts";
import { Random } from "../../sim/random.ts";
import { retelling, seedsToTell } from "../../sim/seeds.ts";
import { KiB, World } from "../../sim/world.ts";
import {
  FLAG_FUA,
  OP_DISCARD,
  OP_FLUSH,
  OP_WRITE,
  OP_WRITE_ZEROES,
} from "../../../src/target/target.ts";
import { openChain } from "../../../targets/qcow2/chain.ts";
import { checkImage } from "../../../targets/qcow2/check.ts";
import { Engine } from "../../../targets/qcow2/engine.ts";
import { readSnapshots } from "../../../targets/qcow2/snapshots.ts";
import { PlatterFile } from "./platter_file.ts";
import { chooseRange, createImage, qemuFill, SECTOR, type Shape } from "./images.ts";
import { check, hasQemu, must } from "./qemu.ts";
import { BytesFile, headerOf, readAll } from "./reference.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

const PATH = import.meta.path;
const SMOKE = 6;
/** Of so many states, one is also judged by qemu-img. */
const ASK_QEMU = 20;
/** For what is counted ahead. */
const ROOM = 8 << 20;
const folder = tempFolder(MEMORY);
const seeds = seedsToTell(SMOKE);
const count = { states: 0, resizes: 0, askedQemu: 0, leaky: 0, torn: 0 };

test.skipIf(!hasQemu)(
  "whatever a power cut leaves is consistent and has what was flushed",
  () => {
    for (const seed of seeds) retelling(seed, PATH, (chosen) => new Story(chosen).tell());
    console.log(`power cuts: ${JSON.stringify(count)}`);
    expect(count.states).toBeGreaterThan(seeds.length * 10);
    if (seeds.length >= SMOKE) expect(count.resizes).toBeGreaterThan(seeds.length / 3);
  },
  Math.max(120_000, seeds.length * 10_000),
);

/** What may be in a sector after a cut: any one of these. */
type Allowed = Uint8Array[];

class CutPlatter extends Platter {
  onChange: () => void = () => {};

  override write(offset: number, bytes: Uint8Array): void {
    super.write(offset, bytes);
    this.onChange();
  }
  override zero(offset: number, length: number): void {
    super.zero(offset, length);
    this.onChange();
  }
  override sync(time: number): void {
    super.sync(time);
    this.onChange();
  }
}

class Story {
  readonly #random: Random;
  readonly #shape: Shape;
  readonly #platter: CutPlatter;
  readonly #before: Buffer;
  readonly #world: World;
  readonly #allowed: Allowed[] = [];
  readonly #snapshots: { l1Offset: number; contents: Buffer }[];
  /** Ranges of requests under way. */
  readonly #busy: { offset: number; length: number }[] = [];
  readonly #seed: number;
  #engine: Engine | undefined;
  #left: number;
  /** Clusters are let go of and used again, over and over. */
  readonly #churns: boolean;
  /** The one that it has, or the two that it may have meanwhile. */
  #sizes: number[];
  readonly #sizeMax: number;
  #cutChance: number;
  /**
   * What a torn sector has whole: an entry. Those of extended L2 have 16 bytes, and no order of
   * two writes could replace a compressed cluster without losing it in between.
   */
  readonly #unit: number;

  constructor(seed: number) {
    this.#seed = seed;
    this.#random = new Random(seed);
    const random = this.#random;
    this.#shape = chooseSmallShape(random);
    const path = folder(`${seed}.qcow2`);
    createImage(path, this.#shape, random);
    qemuFill(path, this.#shape, random, random.int(8));
    for (let index = 0; index < this.#shape.snapshots; index++) {
      must(["qemu-img", "snapshot", "-c", `s${index}`, path]);
    }
    const bytes = new Uint8Array(readFileSync(path));
    this.#before = readAll(bytes);
    for (let at = 0; at < this.#before.length; at += SECTOR) {
      this.#allowed.push([this.#before.subarray(at, at + SECTOR)]);
    }
    const { snapshots } = readSnapshots(new BytesFile(bytes), headerOf(bytes));
    this.#snapshots = snapshots.map(({ l1Offset }) => {
      return { l1Offset, contents: readAll(bytes, l1Offset) };
    });
    this.#sizes = [this.#shape.size];
    this.#sizeMax = this.#shape.size + 512 * KiB;
    this.#platter = new CutPlatter(bytes.length, bytes.length + this.#sizeMax * 2 + ROOM);
    this.#platter.write(0, bytes);
    this.#platter.sync(this.#platter.time);
    this.#churns = random.chance(0.4);
    this.#left = (this.#churns ? 80 : 20) + random.int(60);
    this.#cutChance = 0.4;
    this.#unit = this.#shape.extended ? 16 : 8;
    this.#world = this.#makeWorld();
  }

  #makeWorld(): World {
    const world = new World({
      seed: this.#seed,
      depth: this.#random.pick([1, 4, 8]),
      maxIoBytes: 256 * KiB,
      sqesPerSlot: 16,
      attach: (context) => {
        const chain = openChain("image", false, () => new PlatterFile(this.#platter));
        const options = { readOnly: false, cacheSize: 256 * KiB };
        this.#engine = new Engine(chain, options, { ...context, log: (line) => this.#fail(line) });
        return this.#engine;
      },
    });
    world.disk.platter = this.#platter;
    const guest = { ready: () => (this.#left > 0 ? 1 : 0), fire: () => this.#ask() };
    world.sources.push(guest);
    world.whenQuiet = () => {
      // As worker.ts does when the loop has ended; the memory is still there now.
      this.#engine?.close();
      this.#engine = undefined;
      this.#cut();
      return world.stopOnce();
    };
    this.#platter.onChange = () => this.#perhapsCut();
    return world;
  }

  #fail(line: string): never {
    throw new Error(line);
  }

  tell(): void {
    expect(this.#world.run()).toBe(0);
    expect(this.#world.complaints).toEqual([]);
  }

  /** One more request, beside those that are under way and not on top of them. */
  #ask(): void {
    this.#left--;
    const random = this.#random;
    // Small clusters have small L2 tables: their L1 tables are soon too short.
    const often = this.#shape.clusterSize <= KiB ? 0.25 : 0.05;
    if (random.chance(often) && this.#resize()) return;
    const kind = this.#churns ? random.pick([0, 1, 2, 3, 10, 10, 10, 11]) : random.int(12);
    if (kind < 2) return this.#flush();
    const { offset, length } = this.#churns ? this.#wholeClusters() : this.#free();
    if (length === 0) return;
    const flags = random.chance(0.2) ? FLAG_FUA : 0;
    const op = kind < 8 ? OP_WRITE : kind < 10 ? OP_WRITE_ZEROES : OP_DISCARD;
    const bytes = new Uint8Array(length);
    if (op === OP_WRITE) {
      for (let at = 0; at < length; at += SECTOR) bytes.fill(1 + random.int(255), at, at + SECTOR);
    }
    const busy = { offset, length };
    this.#busy.push(busy);
    this.#each(offset, length, (sector, at) => {
      this.#allowed[sector]!.push(bytes.subarray(at, at + SECTOR));
    });
    const sent = op === OP_WRITE ? { bytes } : {};
    this.#follow({ op, flags, sector: offset / SECTOR, sectors: length / SECTOR, ...sent }, () => {
      this.#busy.splice(this.#busy.indexOf(busy), 1);
      this.#each(offset, length, (sector, at) => {
        const now = bytes.subarray(at, at + SECTOR);
        if ((flags & FLAG_FUA) !== 0 && op !== OP_DISCARD) this.#allowed[sector] = [now];
      });
    });
  }

  /** Larger or smaller; requests keep to what is there before and after. False: not now. */
  #resize(): boolean {
    const shape = this.#shape;
    if (this.#sizes.length > 1 || (shape.version === 2 && shape.snapshots > 0)) return false;
    const random = this.#random;
    const [from] = this.#sizes as [number];
    const unit = random.pick([SECTOR, shape.clusterSize]);
    const more = unit * (1 + random.int(Math.min((256 * KiB) / unit, 300)));
    const to = random.chance(0.7) ? from + more : from - more;
    const least = Math.max(shape.clusterSize, ...this.#busy.map((one) => one.offset + one.length));
    if (to < least || to > this.#sizeMax) return false;
    this.#sizes = [from, to];
    shape.size = Math.min(from, to);
    this.#allowed.length = shape.size / SECTOR;
    while (this.#allowed.length < to / SECTOR) this.#allowed.push([new Uint8Array(SECTOR)]);
    this.#world.resize(to, (failure) => {
      if (failure < 0) this.#fail(`a resize from ${from} to ${to} failed with ${failure}`);
      this.#sizes = [to];
      shape.size = to;
      count.resizes++;
    });
    return true;
  }

  /** What was written last, in sectors that nobody works on, is durable when this ends. */
  #flush(): void {
    const promised = new Map<number, Allowed>();
    this.#allowed.forEach((allowed, sector) => {
      const offset = sector * SECTOR;
      const works = this.#busy.some(
        (one) => offset >= one.offset && offset < one.offset + one.length,
      );
      if (!works && allowed.length > 1) promised.set(sector, [...allowed]);
    });
    this.#follow({ op: OP_FLUSH, flags: 0, sector: 0, sectors: 0 }, () => {
      for (const [sector, then] of promised) this.#promise(sector, then);
    });
  }

  /** Versions before the last WRITE are gone. DISCARD promises nothing about what it leaves. */
  #promise(sector: number, then: Allowed): void {
    if (sector >= this.#allowed.length) return; // cut off meanwhile
    const since = this.#allowed[sector]!.slice(then.length);
    const last = then.findLastIndex((version) => !this.#isDiscard(version));
    if (this.#allowed[sector]!.length >= then.length && this.#allowed[sector]![0] === then[0]) {
      this.#allowed[sector] = [...then.slice(Math.max(0, last)), ...since];
    }
  }
  readonly #discards = new Set<ArrayBufferLike>();
  #isDiscard(version: Uint8Array): boolean {
    return this.#discards.has(version.buffer);
  }

  #follow(request: Parameters<World["ask"]>[0], ended: () => void): void {
    const asked = this.#world.ask(request);
    if (request.op === OP_DISCARD) {
      const sector = request.sector;
      for (let one = sector; one < sector + request.sectors; one++) {
        this.#discards.add(this.#allowed[one]!.at(-1)!.buffer);
      }
    }
    const watch = {
      ready: () => (asked.result === undefined ? 0 : 1),
      fire: () => {
        this.#world.sources.splice(this.#world.sources.indexOf(watch), 1);
        if (asked.result! < 0) this.#fail(`op ${request.op} failed with ${asked.result}`);
        ended();
      },
    };
    this.#world.sources.push(watch);
  }

  #wholeClusters(): { offset: number; length: number } {
    const { clusterSize, size } = this.#shape;
    const offset = this.#random.int(Math.floor(size / clusterSize)) * clusterSize;
    return this.#unlessBusy({ offset, length: clusterSize });
  }

  #free(): { offset: number; length: number } {
    const found = chooseRange(this.#random, this.#shape);
    return this.#unlessBusy({ ...found, length: Math.min(found.length, 128 * KiB) });
  }

  #unlessBusy(found: { offset: number; length: number }): { offset: number; length: number } {
    const { length } = found;
    const end = found.offset + length;
    const overlaps = this.#busy.some(
      (one) => found.offset < one.offset + one.length && one.offset < end,
    );
    return { offset: found.offset, length: overlaps ? 0 : length };
  }

  #each(offset: number, length: number, action: (sector: number, at: number) => void): void {
    for (let at = 0; at < length; at += SECTOR) action((offset + at) / SECTOR, at);
  }

  #perhapsCut(): void {
    const chance = this.#sizes.length > 1 ? 0.9 : this.#cutChance;
    if (this.#random.chance(chance)) this.#cut();
  }

  #cut(): void {
    const after = this.#platter.powerCut(this.#random);
    const bytes = new Uint8Array(after.read(0, after.size));
    if (this.#random.chance(0.5)) this.#tear(bytes);
    count.states++;
    this.#judge(bytes);
  }

  /** Some sectors are new to a point and old from there on, or the other way round. */
  #tear(bytes: Uint8Array): void {
    const other = this.#platter.powerCut(this.#random);
    const others = other.read(0, other.size);
    const length = Math.min(bytes.length, others.length);
    for (let sector = 0; sector + SECTOR <= length; sector += SECTOR) {
      if (!this.#random.chance(0.3)) continue;
      const until = sector + this.#random.int(SECTOR / this.#unit) * this.#unit;
      bytes.set(others.subarray(sector, until), sector);
    }
    count.torn++;
  }

  #judge(bytes: Uint8Array): void {
    const header = headerOf(bytes);
    const found = checkImage(new BytesFile(bytes), header);
    if (found.corruptions > 0) this.#fail(found.messages.join("\n"));
    if (found.leaks > 0) count.leaky++;
    const disk = readAll(bytes);
    if (!this.#sizes.includes(disk.length)) this.#fail(`a disk of ${disk.length} bytes`);
    this.#allowed.forEach((allowed, sector) => {
      if ((sector + 1) * SECTOR > disk.length) return;
      const now = disk.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      if (!isOneOf(now, allowed)) {
        const versions = allowed.map((version) => version[0]).join(", ");
        this.#fail(`sector ${sector} has ${now[0]}…${now.at(-1)}, not one of ${versions}`);
      }
    });
    for (const { l1Offset, contents } of this.#snapshots) {
      if (!readAll(bytes, l1Offset, contents.length).equals(contents))
        this.#fail("a snapshot has changed");
    }
    if (!this.#random.chance(1 / ASK_QEMU)) return;
    const path = folder("state.qcow2");
    writeFileSync(path, bytes);
    const { status, output } = check(path);
    if (status !== 0 && status !== 3) this.#fail(output);
    if ((status === 3) !== found.leaks > 0) this.#fail(`qemu counts other leaks: ${output}`);
    count.askedQemu++;
  }
}

/** A sector of data may be torn as well: each 8 bytes are of one of the versions. */
function isOneOf(now: Uint8Array, allowed: Allowed): boolean {
  if (allowed.some((version) => Buffer.compare(now, version) === 0)) return true;
  for (let at = 0; at < now.length; at += 8) {
    const part = now.subarray(at, at + 8);
    const same = (version: Uint8Array): boolean =>
      Buffer.compare(part, version.subarray(at, at + 8)) === 0;
    if (!allowed.some(same)) return false;
  }
  return true;
}

function chooseSmallShape(random: Random): Shape {
  const clusterBits = random.pick([9, 10, 12, 12, 14, 14, 16]);
  const extended = clusterBits >= 14 && random.chance(0.5);
  const version = extended || random.chance(0.8) ? 3 : 2;
  const refcountBits = version === 2 ? 16 : random.pick([1, 4, 8, 16, 64]);
  const clusterSize = 2 ** clusterBits;
  const clusters = random.pick([10, 40, clusterBits === 9 ? 600 : 40]);
  const compresses = random.chance(0.4);
  return {
    version,
    clusterSize,
    refcountBits,
    extended,
    compression: "zlib",
    preallocation: !compresses && random.chance(0.2) ? "metadata" : "off",
    compresses,
    backing: "none",
    dataFile: "none",
    lazy: false,
    size: clusters * clusterSize,
    snapshots: refcountBits >= 8 && random.chance(0.4) ? 1 : 0,
  };
}
