/** src/control/hand_over.ts: only a device's own nodes, and only to whom the driver names. */

import { describe, expect, test } from "bun:test";
import { statSync } from "node:fs";
import { deviceNumber, handOver } from "../../../src/control/hand_over.ts";
import { SimControl } from "../../sim/control.ts";

describe("nothing is opened or asked for a path like", () => {
  test.each([
    "/dev/null",
    "/dev/ublkc",
    "/dev/ublkd0",
    "/dev/ublkb0p1",
    "/dev/ublkc00",
    "/dev/ublkc-1",
    "/dev/ublkc0/",
    "/dev/ublkc0\n",
    "/dev/../dev/ublkc0",
    "dev/ublkc0",
    "/tmp/ublkc0",
    "/dev/ublkc99999999",
    "",
  ])("%j", async (path) => {
    const control = new SimControl();
    await expect(handOver(control, path)).rejects.toThrow("is no node of a ublk device");
    expect(control.log).toEqual([]);
  });
});

test.each([
  [0x0103, [1, 3]],
  [0xf000, [240, 0]],
  [259 * 256 + 7, [259, 7]],
  [0x10000 + 511 * 256 + 0xff - 0x10000, [511, 255]],
  [(((0x12345 & ~0xff) << 12) | (511 << 8) | 0x45) >>> 0, [511, 0x12345]],
])("device number %i is %p", (rdev, number) => {
  expect(deviceNumber(rdev)).toEqual(number as [number, number]);
});

test("/dev/null is 1:3", () => {
  expect(deviceNumber(statSync("/dev/null").rdev)).toEqual([1, 3]);
});
