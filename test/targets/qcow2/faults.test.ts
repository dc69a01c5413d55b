/**
 * A disk that fails under the engine: many requests in flight on the same few clusters, while
 * writes, reads and fdatasyncs fail, fall short, or find no space.
 *
 * Whatever happens, a sector holds what somebody wrote to it since the last write that succeeded
 * there, in memory and in the file as a killed server leaves it, and the image is not corrupt.
 */

import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { EIO, ENOSPC } from "../../sim/errno.ts";
import { FALLOCATE, FSYNC, type Verdict, WRITE as WRITE_SQE } from "../../sim/disk.ts";
import { Platter } from "../../sim/platter.ts";
import { Random } from "../../sim/random.ts";
import { retelling, seedsToTell } from "../../sim/seeds.ts";
import { type Asked, KiB, World } from "../../sim/world.ts";
import {
  OP_DISCARD,
  OP_FLUSH,
  OP_READ,
  OP_WRITE,
  OP_WRITE_ZEROES,
} from "../../../src/target/target.ts";
import { openChain } from "../../../targets/qcow2/chain.ts";
import { checkImage } from "../../../targets/qcow2/check.ts";
import { Engine } from "../../../targets/qcow2/engine.ts";
import { createImage, qemuFill, SECTOR, type Shape } from "./images.ts";
import { PlatterFile } from "./platter_file.ts";
import { check, hasQemu, must } from "./qemu.ts";
import { BytesFile, headerOf, readAll } from "./reference.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

const PATH = import.meta.path;
const SMOKE = 8;
const ASK_QEMU = 4;
const ROOM = 8 << 20;
const REQUESTS = 150;
const KILL_CHANCE = 0.1;
const folder = tempFolder(MEMORY);
const count = { stories: 0, failed: 0, fenced: 0, askedQemu: 0 };

/** One change of a sector, which is filled with one byte. */
interface Change {
  begin: number;
  /** Infinity while it is under way. */
  end: number;
  /** Nobody knows whether it has happened. A DISCARD that succeeded is such, too. */
  failed: boolean;
  value: number;
}

interface Ended {
  op: number;
  begin: number;
  result: number;
}

class Story {
  readonly random: Random;
  readonly world: World;
  readonly platter: Platter;
  readonly log: string[] = [];
  readonly #shape: Shape;
  readonly #changes: Change[][] = [];
  readonly #seed: number;
  clock = 0;
  /** Not where writes end anywhere: half of an entry is what a page cache never has. */
  kills = true;
  #left = REQUESTS;
  readonly ended: Ended[] = [];

  constructor(seed: number) {
    this.#seed = seed;
    this.random = new Random(seed);
    this.#shape = shapeOf(this.random);
    const path = folder("image.qcow2");
    createImage(path, this.#shape, this.random);
    qemuFill(path, this.#shape, this.random, this.random.int(6));
    if (this.#shape.snapshots > 0) must(["qemu-img", "snapshot", "-c", "s", path]);
    const bytes = new Uint8Array(readFileSync(path));
    const disk = readAll(bytes);
    for (let at = 0; at < disk.length; at += SECTOR) {
      this.#changes.push([{ begin: 0, end: 0, failed: false, value: disk[at]! }]);
    }
    this.platter = new Platter(bytes.length, bytes.length + this.#shape.size * 3 + ROOM);
    this.platter.write(0, bytes);
    this.platter.sync(this.platter.time);
    this.world = this.#makeWorld();
  }

  #makeWorld(): World {
    const world = new World({
      seed: this.#seed,
      depth: 16,
      maxIoBytes: 256 * KiB,
      sqesPerSlot: 16,
      attach: (context) => {
        const chain = openChain("image", false, () => new PlatterFile(this.platter));
        const log = (line: string): void => void this.log.push(line);
        const options = { readOnly: false, cacheSize: 256 * KiB };
        const engine = new Engine(chain, options, { ...context, log });
        // Nobody closes it: this server is going to be killed.
        return { queueIo: (io) => engine.queueIo(io), runIo: (io) => engine.runIo(io) };
      },
    });
    world.disk.platter = this.platter;
    const asks = { ready: () => (this.#left > 0 ? 1 : 0), fire: () => this.#ask() };
    world.sources.push(asks);
    return world;
  }

  tell(): void {
    expect(this.world.run()).toBe(0);
    expect(this.world.complaints).toEqual([]);
    expect(this.ended.length).toBe(REQUESTS);
    this.#askQemu(this.#judge());
    count.stories++;
    count.failed += this.failures().length;
    if (this.log.length > 0) count.fenced++;
  }

  failures(): Ended[] {
    return this.ended.filter(({ result }) => result < 0);
  }

  /** All on a few clusters, most of them small. */
  #ask(): void {
    const { random } = this;
    this.#left--;
    const kind = random.int(14);
    if (kind === 0) return this.#follow(OP_FLUSH, this.world.ask(request(OP_FLUSH, 0, 0)));
    const { clusterSize, size } = this.#shape;
    const sectors = Math.min(size, clusterSize * 6) / SECTOR;
    const sector = random.int(sectors);
    const most = Math.min(sectors - sector, random.pick([1, 8, clusterSize / SECTOR, 200]));
    const length = 1 + random.int(most);
    if (kind < 4) return this.#read(sector, length);
    if (kind === 4) return this.#change(OP_DISCARD, sector, length, 0);
    if (kind === 5) return this.#change(OP_WRITE_ZEROES, sector, length, 0);
    this.#change(OP_WRITE, sector, length, 1 + random.int(255));
  }

  #change(op: number, sector: number, length: number, value: number): void {
    const change: Change = { begin: ++this.clock, end: Infinity, failed: false, value };
    for (let one = sector; one < sector + length; one++) this.#changes[one]!.push(change);
    const bytes = new Uint8Array(length * SECTOR).fill(value);
    const sent = op === OP_WRITE ? { bytes } : {};
    const asked = this.world.ask({ ...request(op, sector, length), ...sent });
    this.#follow(op, asked, (result) => {
      change.end = ++this.clock;
      change.failed = result < 0 || op === OP_DISCARD;
    });
  }

  #read(sector: number, length: number): void {
    const begin = ++this.clock;
    const asked = this.world.ask(request(OP_READ, sector, length));
    this.#follow(OP_READ, asked, (result) => {
      if (result >= 0) this.#compare(asked.bytes, sector, begin, "a READ");
    });
  }

  #follow(op: number, asked: Asked, ended: (result: number) => void = () => {}): void {
    const begin = this.clock;
    const watch = {
      ready: () => (asked.result === undefined ? 0 : 1),
      fire: () => {
        this.world.sources.splice(this.world.sources.indexOf(watch), 1);
        this.ended.push({ op, begin, result: asked.result! });
        ended(asked.result!);
        // A server that is killed now leaves the file like this.
        if (this.kills && this.random.chance(KILL_CHANCE)) this.#judge();
      },
    };
    this.world.sources.push(watch);
  }

  /** Sectors as they were found by somebody who began to look at `begin`. */
  #compare(bytes: Uint8Array, sector: number, begin: number, what: string): void {
    for (let at = 0; at < bytes.length; at += SECTOR) {
      const allowed = this.#valuesOf(sector + at / SECTOR, begin);
      const found = bytes.subarray(at, at + SECTOR);
      // Byte by byte: a write that failed may have ended in the middle.
      const other = found.find((byte) => !allowed.has(byte));
      if (other === undefined) continue;
      const known = [...allowed].join(", ");
      throw new Error(`${what}: sector ${sector + at / SECTOR} has ${other}, not one of ${known}`);
    }
  }

  /** All but what a success has replaced that came after it and ended before `begin`. */
  #valuesOf(sector: number, begin: number): Set<number> {
    const changes = this.#changes[sector]!;
    const last = Math.max(
      ...changes.filter((one) => !one.failed && one.end < begin).map((one) => one.begin),
    );
    return new Set(changes.filter((one) => one.end >= last).map((one) => one.value));
  }

  /** The file as it is at this moment. */
  #judge(): Uint8Array {
    const bytes = new Uint8Array(this.platter.read(0, this.platter.size));
    const found = checkImage(new BytesFile(bytes), headerOf(bytes));
    if (found.corruptions > 0) throw new Error(found.messages.join("\n"));
    this.#compare(readAll(bytes), 0, this.clock + 1, "the file");
    return bytes;
  }

  #askQemu(bytes: Uint8Array): void {
    if (this.#seed % ASK_QEMU !== 0) return;
    const path = folder("after.qcow2");
    writeFileSync(path, bytes);
    const { status, output } = check(path);
    expect([0, 3], output).toContain(status);
    count.askedQemu++;
  }
}

const request = (op: number, sector: number, sectors: number) => ({
  ...{ op, flags: 0, sector, sectors },
});

/** Sectors of one byte each, so that a value tells who wrote it: qemu's patterns are such. */
function shapeOf(random: Random): Shape {
  const clusterBits = random.pick([9, 12, 12, 14, 16]);
  const extended = clusterBits >= 14 && random.chance(0.5);
  const refcountBits = random.pick([1, 8, 16, 64]);
  return {
    version: 3,
    clusterSize: 2 ** clusterBits,
    refcountBits,
    extended,
    compression: "zlib",
    preallocation: random.chance(0.2) ? "metadata" : "off",
    compresses: false,
    backing: "none",
    dataFile: "none",
    lazy: false,
    size: 2 ** clusterBits * random.pick([12, 40, clusterBits === 9 ? 600 : 40]),
    snapshots: refcountBits >= 8 && random.chance(0.5) ? 1 : 0,
  };
}

function stories(name: string, harm: (story: Story) => void, judge: (story: Story) => void): void {
  const all = seedsToTell(SMOKE);
  const tell = (seed: number): void => {
    const story = new Story(seed);
    harm(story);
    story.tell();
    judge(story);
  };
  test.skipIf(!hasQemu)(
    name,
    () => {
      for (const seed of all) retelling(seed, PATH, tell);
      console.log(`${name}: ${JSON.stringify(count)}`);
    },
    Math.max(120_000, all.length * 6000),
  );
}

stories(
  "short transfers and interruptions reach nobody",
  (story) => {
    story.kills = false;
    Object.assign(story.world.disk.faults, { short: 0.2, again: 0.1, interrupted: 0.1 });
  },
  (story) => {
    expect(story.log).toEqual([]);
    expect(story.failures()).toEqual([]);
  },
);

stories(
  "errors on everything cost the requests that they reach, or a fence, and no data",
  ({ world }) => Object.assign(world.disk.faults, { error: 0.02, inline: 0.2 }),
  (story) => {
    // One line, and from then on no change: that is what a fence is.
    expect(story.log.length).toBeLessThanOrEqual(1);
    for (const line of story.log) expect(line).toContain("NO WRITE IS ACCEPTED ANY MORE");
  },
);

stories(
  "a file that cannot grow costs the writes that need it to, and no fence",
  (story) => {
    const end = story.platter.size + story.random.int(6) * 8 * KiB;
    let full = true;
    story.world.disk.verdict = (sqe) => {
      if (story.ended.length > REQUESTS * 0.7) full = false;
      return full && grows(sqe, end) ? -ENOSPC : undefined;
    };
  },
  (story) => {
    expect(story.log).toEqual([]);
    expect(story.failures().filter(({ result }) => result !== -ENOSPC)).toEqual([]);
    // Space is there again for the last of them.
    expect(story.ended.at(-1)!.result).toBeGreaterThanOrEqual(0);
  },
);

const grows = (sqe: Parameters<Verdict>[0], end: number): boolean =>
  (sqe.opcode === WRITE_SQE && sqe.offset + sqe.length > end) ||
  (sqe.opcode === FALLOCATE && sqe.length === ZERO_RANGE && sqe.offset + sqe.address > end);
const ZERO_RANGE = 0x11;

const failedAt = new WeakMap<Story, number>();

stories(
  "after an fdatasync that failed there is no further change",
  (story) => {
    let left = story.random.int(6);
    story.world.disk.verdict = (sqe) => {
      if (sqe.opcode !== FSYNC || left-- > 0) return undefined;
      if (!failedAt.has(story)) failedAt.set(story, story.clock);
      return -EIO;
    };
  },
  (story) => {
    const when = failedAt.get(story) ?? Infinity;
    expect(story.log.length).toBe(when === Infinity ? 0 : 1);
    const later = story.ended.filter(({ op, begin }) => op !== OP_READ && begin > when);
    for (const { result } of later) expect(result).toBe(-EIO);
    expect(story.failures().filter(({ op }) => op === OP_READ)).toEqual([]);
  },
);
