/** src/target/counters.ts: numbers in two halves. */

import { expect, test } from "bun:test";
import { addTo, valueOf } from "../../../src/target/counters.ts";

test("numbers of any size add up", () => {
  const words = new Int32Array(8);
  let sum = 0;
  for (const count of [0, 1, 2 ** 30 - 1, 2 ** 30, 7, 2 ** 41 - 512, 2 ** 31 - 1]) {
    addTo(words, 1, count);
    sum += count;
    expect(valueOf(words, 1)).toBe(sum);
  }
  expect([valueOf(words, 0), valueOf(words, 2)]).toEqual([0, 0]);
});
