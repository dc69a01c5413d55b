/** src/control/nodes.ts: what sysfs tells of a device. */

import { expect, test } from "bun:test";
import { mkdirSync, rmSync, statSync, symlinkSync } from "node:fs";
import { incarnation } from "../../../src/control/nodes.ts";
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
