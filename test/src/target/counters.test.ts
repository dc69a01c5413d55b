/** src/target/counters.ts: numbers in two halves, and what is read while one is written. */

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

test("a number between its two halves is not believed", () => {
  const words = new Int32Array(2);
  addTo(words, 0, 2 ** 30 - 1);
  let reads = 0;
  /** Its high half has been written; the low one is, while somebody reads. */
  const written = new Proxy(words, {
    get: (cell, index) => {
      if (index === "1") return 1;
      return reads++ === 0 ? cell[0] : 5;
    },
  });
  expect(valueOf(written, 0)).toBe(2 ** 30 + 5);
});
