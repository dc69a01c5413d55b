/** Requests in several pieces, side by side or in turns, under reordered and unkind completions. */

import { expect } from "bun:test";
import type { Handlers } from "../../src/target/target.ts";
import { Guest } from "./guest.ts";
import { inPieces, inTurns } from "./pieces.ts";
import { story } from "./seeds.ts";
import { KiB, World } from "./world.ts";

const PATH = import.meta.path;
const SIZE = 256 * KiB;

function tell(seed: number, handlers: Handlers, error: number): World {
  const world = new World({ seed, attach: () => handlers, fileSize: SIZE });
  Object.assign(world.disk.faults, {
    short: 0.2,
    again: 0.1,
    interrupted: 0.1,
    inline: 0.2,
    error,
  });
  const mayFail = error > 0;
  const guest = new Guest(world, {
    ...{ size: SIZE, count: 200, outstanding: 6, maxSectors: 128, mayFail },
  });
  expect(world.run()).toBe(0);
  expect(guest.finished()).toBe(true);
  expect(world.complaints).toEqual([]);
  return world;
}

story("a request ends when the last of its pieces is done", PATH, (seed) => {
  tell(seed, inPieces(), 0);
});

story("one failed piece fails the request, and no other request", PATH, (seed) => {
  tell(seed, inPieces(), 0.05);
});

story("a coroutine goes on when its pieces are done", PATH, (seed) => {
  tell(seed, inTurns(), 0);
});

story("a coroutine is told of a failed piece", PATH, (seed) => {
  tell(seed, inTurns(), 0.05);
});
