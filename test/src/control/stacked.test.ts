/** src/control/stacked.ts: the upper ones end first, and nobody else waits. */

import { expect, test } from "bun:test";
import { endFromTop, standsOn } from "../../../src/control/stacked.ts";
import { removeState, writeState } from "../../../src/control/state.ts";
import { within } from "../../../src/control/within.ts";
import { tempFolder } from "../../temp.ts";

process.env["XDG_RUNTIME_DIR"] = tempFolder()(""); // root has a directory all the same

/** `stuck` never end. Answers what began, and what had ended by then. */
async function ended(
  ids: number[],
  below: Record<number, number>,
  stuck: number[] = [],
): Promise<{ order: number[]; all: boolean }> {
  const order: number[] = [];
  const end = async (id: number): Promise<void> => {
    if (stuck.includes(id)) return new Promise(() => {});
    await Bun.sleep(5 * (id % 3));
    order.push(id);
  };
  const all = await within(
    300,
    endFromTop(ids, end, (id) => below[id]),
  );
  return { order, all };
}

test("what stands on another device ends before that", async () => {
  const { order, all } = await ended([0, 1, 2, 3, 4, 5], { 1: 0, 2: 1, 5: 1, 4: 9 });
  expect(all).toBe(true);
  expect(order.toSorted()).toEqual([0, 1, 2, 3, 4, 5]);
  const at = (id: number): number => order.indexOf(id);
  expect([at(2) < at(1), at(5) < at(1), at(1) < at(0)]).toEqual([true, true, true]);
});

test("one that does not end keeps nobody waiting but what it stands on", async () => {
  const { order, all } = await ended([0, 1, 2, 3, 4], { 1: 0, 4: 3 }, [1]);
  expect(all).toBe(false);
  expect(order.toSorted()).toEqual([2, 3, 4]);
});

test.each([{ 0: 0 }, { 0: 1, 1: 0 }, { 0: 1, 1: 2, 2: 0, 3: 0 }])(
  "a circle ends nevertheless: %j",
  async (below) => {
    const { order, all } = await ended([0, 1, 2, 3], below);
    expect([order.length, all]).toEqual([4, true]);
  },
);

const ID = 1_000_002;

test.each([
  ["/dev/ublkb7", 7],
  ["/dev/ublkb12p3", 12],
  ["/dev/sda1", undefined],
  ["/srv/dev/ublkb7", undefined],
  [undefined, undefined],
])("a device that is kept in %s stands on device %p", (path, below) => {
  writeState({
    dev_id: ID,
    target: { name: "loop", config: {} },
    serving: { zeroCopyMin: 0, pollUs: 0, threads: 0, limits: {}, logLevel: "info" },
    report: path === undefined ? {} : { backing_file: path },
    tids: [],
    affinity: [],
  });
  expect(standsOn(ID)).toBe(below);
  removeState(ID);
});

test("a device that we know nothing of stands on none", () => {
  expect(standsOn(ID)).toBeUndefined();
});
