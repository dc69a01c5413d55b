/** The end of a device: aborts that find the server idle, and aborts that find it at work. */

import { expect, test } from "bun:test";
import { Guest, quiesceAfter } from "./guest.ts";
import { EINVAL } from "./errno.ts";
import { inTurns } from "./pieces.ts";
import { story } from "./seeds.ts";
import { loopAt } from "./targets.ts";
import { KiB, World, type WorldOptions } from "./world.ts";

const PATH = import.meta.path;
const SIZE = 256 * KiB;

function quiesceSometime(options: Pick<WorldOptions, "seed" | "attach" | "way">): void {
  const world = new World({ ...options, queues: 2, fileSize: SIZE });
  Object.assign(world.disk.faults, { short: 0.1, again: 0.1 });
  const mayFail = false;
  const guest = new Guest(world, {
    ...{ size: SIZE, count: 1000, outstanding: 12, maxSectors: 64, mayFail },
  });
  const after = world.random.int(200);
  const quiesced = quiesceAfter(world, guest, after);
  expect(world.run()).toBe(0);
  expect(quiesced()).toBe(true);
  expect(guest.finished()).toBe(false);
  const held = world.driver.tags.filter(({ state }) => state === "server" || state === "asking");
  expect(held.map(({ where }) => where)).toEqual([]);
}

story("a quiesced device: what is in our hands is finished, then we leave", PATH, (seed) => {
  quiesceSometime({ seed, attach: loopAt(0) });
});

story("a write whose data is on its way is finished too before we leave", PATH, (seed) => {
  quiesceSometime({ seed, attach: loopAt(0), way: { mode: "get-data" } });
});

test("so it was where we left before the data came", () => {
  quiesceSometime({ seed: 48, attach: loopAt(0), way: { mode: "get-data" } });
});

story("coroutines are finished too before we leave", PATH, (seed) => {
  quiesceSometime({ seed, attach: () => inTurns() });
});

test("a stopped device that is idle lets the thread go", () => {
  const world = new World({ seed: 1, attach: loopAt(0), queues: 2 });
  expect(world.run()).toBe(0);
  expect(world.driver.count).toEqual({ arrived: 0, committed: 0 });
});

test("a driver that refuses a command ends the thread with its errno", () => {
  const world = new World({ seed: 1, attach: loopAt(0) });
  world.driver.refusal = -EINVAL;
  expect(world.run()).toBe(-EINVAL);
});
