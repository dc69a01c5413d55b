/** A submission queue that is full, and a kernel that takes little or nothing of it. */

import { expect, test } from "bun:test";
import { PIECES_MAX } from "../../src/target/target.ts";
import { READ } from "./tags.ts";
import { EAGAIN, EBUSY } from "./errno.ts";
import { Guest } from "./guest.ts";
import { inPieces } from "./pieces.ts";
import { Random } from "./random.ts";
import { type Intake, reluctant } from "./ring.ts";
import { story } from "./seeds.ts";
import { nullDisk } from "./targets.ts";
import { KiB, World } from "./world.ts";

const PATH = import.meta.path;
const SIZE = 256 * KiB;
const attach = () => inPieces();

story("no commit is lost, however full the queue and however slow the kernel", PATH, (seed) => {
  const intake = reluctant(new Random(seed));
  const world = new World({ seed, attach, fileSize: SIZE, depth: 8, intake });
  const guest = new Guest(world, {
    ...{ size: SIZE, count: 300, outstanding: 12, maxSectors: 64, mayFail: true },
  });
  expect(world.run()).toBe(0);
  expect(guest.finished()).toBe(true);
  expect(world.driver.count.committed).toBe(world.driver.count.arrived);
});

test("a request whose SQEs cannot be queued is committed with an error", () => {
  let open = true;
  const intake: Intake = (queued) => (open ? queued : -EBUSY);
  const world = new World({ seed: 1, attach, fileSize: SIZE, depth: 4, intake });
  // While the requests are looked at the kernel takes nothing; afterwards it does again.
  const fire = world.driver.fire.bind(world.driver);
  world.driver.fire = () => {
    fire();
    open = false;
  };
  const check = world.check.bind(world);
  let turns = 0;
  world.check = () => {
    check();
    if (++turns % 5 === 0) open = true;
  };
  const sectors = PIECES_MAX * 8;
  const asked = [0, 1, 2, 3].map((at) => world.ask({ op: READ, flags: 0, sector: at, sectors }));
  expect(world.run()).toBe(0);
  const results = asked.map(({ result }) => result);
  expect(results.every((result) => result === 0 || result === -EAGAIN)).toBe(true);
  expect(results).toContain(-EAGAIN);
});

test("commits that the kernel does not take at once still leave before the thread does", () => {
  let quiesced = false;
  // From the abort on it takes nothing, or one SQE, by turns.
  let calls = 0;
  const intake: Intake = (queued) => (quiesced ? ++calls % 2 : queued);
  const world = new World({ seed: 1, attach: () => inPieces(1), fileSize: SIZE, intake });
  const asked = [0, 8].map((sector) => world.ask({ op: READ, flags: 0, sector, sectors: 8 }));
  const disk = world.sources.indexOf(world.disk);
  world.sources.splice(disk, 1);
  world.whenQuiet = () => {
    if (quiesced) return world.disk.ready() > 0 && (world.disk.fire(), true);
    quiesced = true;
    world.driver.quiesce();
    return true;
  };
  expect(world.run()).toBe(0);
  expect(asked.map(({ result }) => result)).toEqual([0, 0]);
});

test("a kernel that never takes the last commits does not keep the thread for ever", () => {
  let quiesced = false;
  const intake: Intake = (queued) => (quiesced ? -EAGAIN : queued);
  const world = new World({ seed: 1, attach: nullDisk, intake });
  world.ask({ op: READ, flags: 0, sector: 0, sectors: 8 });
  const fire = world.driver.fire.bind(world.driver);
  world.driver.fire = () => {
    fire();
    if (quiesced) return;
    quiesced = true;
    world.driver.quiesce();
    fire();
  };
  expect(world.run()).toBe(-EBUSY);
});
