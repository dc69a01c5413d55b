/** The loop target over a simulated disk: whatever order and fate its operations meet. */

import { expect } from "bun:test";
import { Guest } from "./guest.ts";
import { loopAt } from "./targets.ts";
import { story } from "./seeds.ts";
import { KiB, SECTOR, World } from "./world.ts";

const PATH = import.meta.path;
const SIZE = 256 * KiB;
const OFFSET = 3 * SECTOR;

function worldOf(seed: number): World {
  return new World({ seed, attach: loopAt(OFFSET), queues: 2, fileSize: OFFSET + SIZE });
}

function serve(world: World, mayFail: boolean, count = 300): Guest {
  const guest = new Guest(world, { size: SIZE, count, outstanding: 12, maxSectors: 64, mayFail });
  expect(world.run()).toBe(0);
  expect(guest.finished()).toBe(true);
  expect(world.driver.count.committed).toBe(world.driver.count.arrived);
  expect(world.complaints).toEqual([]);
  return guest;
}

story("reads find what was written, in whatever order operations complete", PATH, (seed) => {
  serve(worldOf(seed), false);
});

story("operations that complete while they are submitted are no different", PATH, (seed) => {
  const world = worldOf(seed);
  world.disk.faults.inline = 0.5;
  serve(world, false);
});

story("short transfers are carried on to their end", PATH, (seed) => {
  const world = worldOf(seed);
  world.disk.faults.short = 0.4;
  serve(world, false);
});

story("operations that are told to try again do, and succeed", PATH, (seed) => {
  const world = worldOf(seed);
  Object.assign(world.disk.faults, { again: 0.2, interrupted: 0.2 });
  serve(world, false);
});

story("a failed operation fails its own request and no other", PATH, (seed) => {
  const world = worldOf(seed);
  Object.assign(world.disk.faults, { error: 0.1, short: 0.1, again: 0.1, inline: 0.1 });
  const guest = serve(world, true);
  expect(guest.count.failed).toBeGreaterThan(0);
});

story("a file system that cannot fallocate is written zeros", PATH, (seed) => {
  const world = worldOf(seed);
  world.disk.canFallocate = false;
  world.disk.faults.short = 0.2;
  serve(world, true);
});
