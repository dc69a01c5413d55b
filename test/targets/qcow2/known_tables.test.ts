/** A set of clusters remembers what is in it, through growth and deletion. */

import { expect, test } from "bun:test";
import { Random } from "../../sim/random.ts";
import { KnownTables } from "../../../targets/qcow2/known_tables.ts";

test("what was added is known until it is deleted", () => {
  const random = new Random(1);
  const known = new KnownTables();
  const model = new Set<number>();
  // Few numbers close together, so that they meet; and large ones, as of a sparse file.
  const numbers = Array.from({ length: 300 }, (_, index) =>
    random.chance(0.8) ? random.int(600) : index * 2 ** 36 + random.int(100),
  );
  for (let step = 0; step < 20_000; step++) {
    const cluster = random.pick(numbers);
    if (random.chance(0.5)) {
      known.add(cluster);
      model.add(cluster);
    } else {
      known.delete(cluster);
      model.delete(cluster);
    }
    const asked = random.pick(numbers);
    expect(known.has(asked)).toBe(model.has(asked));
  }
  expect(known.count).toBe(model.size);
  for (const cluster of numbers) expect(known.has(cluster)).toBe(model.has(cluster));
});

test("ranges begin with their first cluster and end before their last", () => {
  const known = new KnownTables(Float64Array.of(3, 5, 8, 9));
  const inside = Array.from({ length: 12 }, (_, cluster) => cluster).filter((one) =>
    known.isFixed(one),
  );
  expect(inside).toEqual([3, 4, 8]);
  known.add(6);
  expect([3, 6, 7].map((cluster) => known.has(cluster))).toEqual([true, true, false]);
  expect(known.isFixed(6)).toBe(false);
});
