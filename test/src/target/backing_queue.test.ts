/** src/target/backing_queue.ts: limits of our own block devices, and of what is on none. */

import { expect, test } from "bun:test";
import { readdirSync, readFileSync, type Stats, statSync } from "node:fs";
import { queueLimit, segmentsOf } from "../../../src/target/backing_queue.ts";

/** "259:3" as stat(2) has it: glibc's makedev(). */
function deviceNumber(text: string): number {
  const [major = 0, minor = 0] = text.trim().split(":").map(Number);
  return (minor & 0xff) + (major & 0xfff) * 2 ** 8 + (minor >>> 8) * 2 ** 20;
}

const disks = readdirSync("/sys/block").filter((name) => {
  return readdirSync(`/sys/block/${name}`).includes("queue");
});

test.skipIf(disks.length === 0)("every disk's limits are those of its queue", () => {
  for (const disk of disks) {
    const queue = (name: string) =>
      Number(readFileSync(`/sys/block/${disk}/queue/${name}`, "utf8"));
    const rdev = deviceNumber(readFileSync(`/sys/block/${disk}/dev`, "utf8"));
    expect(queueLimit(rdev, "max_segments"), disk).toBe(queue("max_segments"));
    const found = segmentsOf({ isBlockDevice: () => true, rdev } as Stats);
    expect(found, disk).toEqual({
      count: queue("max_segments"),
      size: queue("max_segment_size"),
      gapMask: queue("virt_boundary_mask"),
    });
  }
});

test("a file that is on no block device has none", () => {
  expect(segmentsOf(statSync("/proc/self/status"))).toBeUndefined();
  expect(queueLimit(statSync("/proc/self/status").dev, "max_segments")).toBe(0);
});
