/** src/control/supervise.ts: when a death is followed by another server, and when by the end. */

import { expect, test } from "bun:test";
import { Deaths } from "../../../src/control/supervise.ts";

test("the first death costs no time, the next ones more and more, the fifth is the last", () => {
  const deaths = new Deaths();
  const pauses = [0, 10, 20, 30, 40].map((second) => deaths.note(second * 1000));
  expect(pauses).toEqual([0, 100, 500, 1000, undefined]);
});

test("deaths that lie a minute back are forgotten", () => {
  const deaths = new Deaths();
  for (let second = 0; second < 600; second += 30) {
    expect(deaths.note(second * 1000)).toBe(second === 0 ? 0 : 100);
  }
});
