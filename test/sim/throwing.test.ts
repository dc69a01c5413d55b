/** Handlers that throw: the request fails, somebody is told, and the thread lives on. */

import { expect, test } from "bun:test";
import { SysError } from "../../ffi/errno.ts";
import { DATA_FILE, type Handlers, QUEUED, SLOW } from "../../src/target/target.ts";
import { READ } from "./tags.ts";
import { EIO, ENOSPC, EOPNOTSUPP } from "./errno.ts";
import { KiB, SECTOR, World } from "./world.ts";

const OUCH = new TypeError("ouch");
const FULL = new SysError({ op: "allocate", errno: ENOSPC });

/** Serves sector 0 as `bad` does; what comes behind it is read from the file. */
function withBadFirst(bad: Partial<Handlers>): World {
  const handlers: Handlers = {
    queueIo(io) {
      if (io.offset === 0) return bad.queueIo?.(io) ?? SLOW;
      io.readFile(DATA_FILE, io.offset, 0, io.length);
      return QUEUED;
    },
  };
  if (bad.runIo !== undefined) handlers.runIo = bad.runIo;
  return new World({ seed: 7, attach: () => handlers, fileSize: 64 * KiB });
}

function results(world: World): (number | undefined)[] {
  const sectors = (8 * KiB) / SECTOR;
  const asked = [0, 16, 32, 0].map((sector) => world.ask({ op: READ, flags: 0, sector, sectors }));
  expect(world.run()).toBe(0);
  return asked.map(({ result }) => result);
}

const throwing = (error: unknown) => () => {
  throw error;
};

test("whatever a handler throws becomes EIO, complained of once a time", () => {
  const world = withBadFirst({ queueIo: throwing(OUCH) });
  expect(results(world)).toEqual([-EIO, 0, 0, -EIO]);
  expect(world.complaints).toEqual([OUCH, OUCH]);
});

test("a SysError keeps its errno", () => {
  const world = withBadFirst({ queueIo: throwing(FULL) });
  expect(results(world)).toEqual([-ENOSPC, 0, 0, -ENOSPC]);
});

test("a handler that throws with pieces in flight fails when the last of them is back", () => {
  const world = withBadFirst({
    queueIo(io) {
      io.readFile(DATA_FILE, 0, 0, 4 * KiB);
      io.readFile(DATA_FILE, 4 * KiB, 4 * KiB, 4 * KiB);
      throw OUCH;
    },
  });
  world.disk.faults.short = 0.5;
  expect(results(world)).toEqual([-EIO, 0, 0, -EIO]);
});

test("a coroutine may throw, before and after it has waited", () => {
  const world = withBadFirst({
    *runIo(io) {
      io.readFile(DATA_FILE, 0, 0, 4 * KiB);
      yield;
      io.readFile(DATA_FILE, 0, 0, 4 * KiB);
      throw FULL;
    },
  });
  expect(results(world)).toEqual([-ENOSPC, 0, 0, -ENOSPC]);
  expect(world.complaints).toEqual([FULL, FULL]);
});

test("a handler that has nothing to wait with is not supported", () => {
  expect(results(withBadFirst({}))).toEqual([-EOPNOTSUPP, 0, 0, -EOPNOTSUPP]);
});
