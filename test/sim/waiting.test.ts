/** Requests that wait for each other: who wakes, and when it runs. */

import { expect, test } from "bun:test";
import {
  DATA_FILE,
  type Handlers,
  type QueueContext,
  SLOW,
  WaitList,
} from "../../src/target/target.ts";
import { READ as READ_SQE } from "./disk.ts";
import { READ } from "./tags.ts";
import { EIO } from "./errno.ts";
import { story } from "./seeds.ts";
import { KiB, POISON, SECTOR, World } from "./world.ts";

const TABLE = 4 * KiB;

/** Needs a table for every request, and reads it from the file's beginning when it is missing. */
function withTable({ runnable, allocate }: QueueContext): Handlers {
  const address = allocate(TABLE);
  const waiting = new WaitList(runnable);
  const table: { state: "missing" | "loading" | "there" } = { state: "missing" };
  return {
    queueIo: () => SLOW,
    *runIo(io) {
      while (table.state === "loading") yield waiting;
      if (table.state === "missing") {
        table.state = "loading";
        io.readMeta(DATA_FILE, 0, address, TABLE);
        const failure = yield;
        table.state = failure === 0 ? "there" : "missing";
        waiting.wakeAll();
        if (failure < 0) return failure;
      }
      io.putBytes(0, address, io.length);
      return io.length;
    },
  };
}

function worldOf(seed: number): World {
  const world = new World({ seed, attach: withTable, depth: 8, fileSize: 64 * KiB });
  world.disk.platter.write(0, new Uint8Array(TABLE).fill(0x42));
  return world;
}

function ask(world: World, count: number): { result: number | undefined; bytes: Uint8Array }[] {
  const sectors = TABLE / SECTOR;
  return Array.from({ length: count }, () => world.ask({ op: READ, flags: 0, sector: 0, sectors }));
}

story("requests that miss the same table load it once", import.meta.path, (seed) => {
  const world = worldOf(seed);
  const asked = ask(world, 50);
  expect(world.run()).toBe(0);
  for (const { result, bytes } of asked) {
    expect(result).toBe(0);
    expect(bytes.every((byte) => byte === 0x42)).toBe(true);
  }
  expect(world.disk.log.filter(({ opcode }) => opcode === READ_SQE)).toHaveLength(1);
});

test("when the load fails the next in line tries, and those who wait are not forgotten", () => {
  const world = worldOf(3);
  let failures = 0;
  world.disk.verdict = () => (++failures <= 2 ? -EIO : undefined);
  const asked = ask(world, 8);
  expect(world.run()).toBe(0);
  const results = asked.map(({ result }) => result);
  expect(results.filter((result) => result === -EIO)).toHaveLength(2);
  expect(results.filter((result) => result === 0)).toHaveLength(6);
  const failed = asked.filter(({ result }) => result === -EIO);
  expect(failed.every(({ bytes }) => bytes.every((byte) => byte === POISON))).toBe(true);
});
