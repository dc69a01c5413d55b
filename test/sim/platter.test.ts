/** The simulated platter: what is durable stays, what is not may go, sector by sector. */

import { expect, test } from "bun:test";
import { Platter } from "./platter.ts";
import { Random } from "./random.ts";

const SECTOR = 512;
const filled = (byte: number, sectors = 1): Uint8Array =>
  new Uint8Array(sectors * SECTOR).fill(byte);

/** The first byte of each sector, after each of many power cuts. */
function outcomes(platter: Platter): string[] {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 200; seed++) {
    const after = platter.powerCut(new Random(seed));
    const sectors = Array.from({ length: after.size / SECTOR }, (_, at) => at * SECTOR);
    seen.add(sectors.map((at) => after.read(at, 1)[0]).join(" "));
  }
  return [...seen].toSorted();
}

test("unsynced sectors are kept or lost, each for itself", () => {
  const platter = new Platter(2 * SECTOR);
  platter.write(0, filled(1, 2));
  expect(outcomes(platter)).toEqual(["0 0", "0 1", "1 0", "1 1"]);
});

test("a sector holds any one of its versions since the last sync", () => {
  const platter = new Platter(SECTOR);
  platter.write(0, filled(1));
  platter.sync(platter.time);
  platter.write(0, filled(2));
  platter.write(0, filled(3));
  expect(outcomes(platter)).toEqual(["1", "2", "3"]);
});

test("what was written after a sync began is not covered by it", () => {
  const platter = new Platter(2 * SECTOR);
  platter.write(0, filled(1));
  const began = platter.time;
  platter.write(SECTOR, filled(2));
  platter.sync(began);
  expect(outcomes(platter)).toEqual(["1 0", "1 2"]);
});

test("a durable write covers its own range only", () => {
  const platter = new Platter(2 * SECTOR);
  platter.write(0, filled(1, 2));
  platter.syncRange(SECTOR, SECTOR);
  expect(outcomes(platter)).toEqual(["0 1", "1 1"]);
});

test("a file that grew may have its old size again", () => {
  const platter = new Platter(SECTOR, 2 * SECTOR);
  platter.write(SECTOR, filled(1));
  expect(outcomes(platter)).toEqual(["0", "0 0", "0 1"]);
  platter.sync(platter.time);
  expect(outcomes(platter)).toEqual(["0 1"]);
});

test("readers see the last write, holes and the end", () => {
  const platter = new Platter(2 * SECTOR);
  platter.write(100, filled(5));
  expect(platter.read(99, 3)).toEqual(new Uint8Array([0, 5, 5]));
  platter.zero(100, 2);
  expect(platter.read(99, 4)).toEqual(new Uint8Array([0, 0, 0, 5]));
  expect(platter.read(2 * SECTOR - 1, 10)).toHaveLength(1);
  platter.truncate(SECTOR);
  expect(platter.read(SECTOR, 10)).toHaveLength(0);
});
