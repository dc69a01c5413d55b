/** The loop and the null target in every mode and with both kinds of commands. */

import { expect } from "bun:test";
import { Guest, quiesceAfter } from "./guest.ts";
import { Random } from "./random.ts";
import { type Intake, reluctant } from "./ring.ts";
import { story } from "./seeds.ts";
import { READ, WRITE } from "./tags.ts";
import { loopAt, nullDisk } from "./targets.ts";
import { WAYS } from "./ways.ts";
import { type Asked, KiB, SECTOR, type Way, World } from "./world.ts";

const PATH = import.meta.path;
const SIZE = 256 * KiB;
const SEEDS = 2;
const KIND = { short: 0, again: 0, interrupted: 0, error: 0, inline: 0.3 };
const UNKIND = { short: 0.2, again: 0.1, interrupted: 0.1, error: 0, inline: 0.3 };
const BROKEN = { ...UNKIND, error: 0.05 };

function loopWorld(seed: number, way: Way, faults: typeof KIND, intake?: Intake): World {
  const options = { seed, way, attach: loopAt(0), queues: 2, fileSize: SIZE };
  const world = new World(intake === undefined ? options : { ...options, intake });
  Object.assign(world.disk.faults, faults);
  return world;
}

function guestOf(world: World, mayFail: boolean, count = 200): Guest {
  return new Guest(world, { size: SIZE, count, outstanding: 12, maxSectors: 64, mayFail });
}

function serve(world: World, mayFail: boolean): Guest {
  const guest = guestOf(world, mayFail);
  expect(world.run()).toBe(0);
  expect(guest.finished()).toBe(true);
  expect(world.complaints).toEqual([]);
  expect(world.driver.count.committed).toBe(world.driver.count.arrived);
  return guest;
}

for (const [name, way] of WAYS) {
  const tell = (what: string, told: (seed: number) => void): void =>
    story(`${name}: ${what}`, PATH, told, SEEDS);

  tell("reads find what was written", (seed) => {
    serve(loopWorld(seed, way, KIND), false);
  });

  tell("short transfers and those told to try again are carried on", (seed) => {
    serve(loopWorld(seed, way, UNKIND), false);
  });

  tell("a failed operation fails its own request and no other", (seed) => {
    serve(loopWorld(seed, way, BROKEN), true);
  });

  tell("no commit is lost when the kernel takes SQEs as it likes", (seed) => {
    serve(loopWorld(seed, way, UNKIND, reluctant(new Random(seed))), true);
  });

  tell("pages that cannot be registered are copied, or their request fails", (seed) => {
    const world = loopWorld(seed, way, KIND);
    world.driver.registrationFails = 0.3;
    const copies = way.userCopy === true || !way.mode.endsWith("zero-copy");
    serve(world, !copies);
  });

  tell("a quiesced device: what is in our hands is finished, then we leave", (seed) => {
    const world = loopWorld(seed, way, UNKIND);
    const guest = guestOf(world, false, 1000);
    const after = world.random.int(100);
    const quiesced = quiesceAfter(world, guest, after);
    expect(world.run()).toBe(0);
    expect([quiesced(), guest.finished()]).toEqual([true, false]);
  });

  tell("the null target reads zeros", (seed) => {
    const world = new World({ seed, way, attach: nullDisk, depth: 2 });
    const asked: [op: number, asked: Asked][] = [];
    for (let count = 0; count < 60; count++) {
      const sectors = 1 + world.random.int((64 * KiB) / SECTOR);
      const op = world.random.pick([READ, WRITE]);
      asked.push([op, world.ask({ op, flags: 0, sector: 0, sectors })]);
    }
    expect(world.run()).toBe(0);
    for (const [op, { bytes, result }] of asked) {
      expect(result).toBe(0);
      if (op === READ) expect(Buffer.alloc(bytes.length).equals(bytes)).toBe(true);
    }
  });
}
