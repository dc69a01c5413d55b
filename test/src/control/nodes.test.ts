/** src/control/nodes.ts: what sysfs tells of a device. */

import { expect, test } from "bun:test";
import { mkdirSync, rmSync, statSync, symlinkSync } from "node:fs";
import { Identity, incarnation } from "../../../src/control/nodes.ts";
import { tempFolder } from "../../temp.ts";

const sysfs = tempFolder();
const GONE = 0;
const NO_SYSFS = -1;

test("a device is told from a later one of the same number, as sysfs tells them", () => {
  mkdirSync(sysfs("first"));
  mkdirSync(sysfs("second"));
  symlinkSync("first", sysfs("ublkc0"));
  const first = incarnation(0, sysfs("."));
  expect(first).toBe(statSync(sysfs("first")).ino);
  expect(incarnation(0, sysfs("."))).toBe(first);
  rmSync(sysfs("ublkc0"));
  expect(incarnation(0, sysfs("."))).toBe(GONE);
  symlinkSync("second", sysfs("ublkc0"));
  expect(incarnation(0, sysfs("."))).not.toBe(first);
  expect(incarnation(0, sysfs("none"))).toBe(NO_SYSFS);
});

test("a device that is gone is told from one that has its id by now", () => {
  let now = 5;
  const look = (): number => now;
  const first = new Identity(0, undefined, look);
  expect([first.isGone, first.isReplaced]).toEqual([false, false]);
  now = GONE;
  expect([first.isGone, first.isReplaced]).toEqual([true, false]);
  now = 6;
  expect([first.isGone, first.isReplaced]).toEqual([true, true]);
  // Hidden when it was first looked at, or no sysfs yet: it cannot be told from the next.
  for (const unknown of [GONE, NO_SYSFS]) {
    const unseen = new Identity(0, unknown, look);
    expect([unseen.isGone, unseen.isReplaced]).toEqual([false, false]);
  }
});
