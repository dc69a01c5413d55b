/** src/control/limits.ts: what a user may ask of a disk, and what cannot work. */

import { describe, expect, test } from "bun:test";
import { SysError } from "../../../ffi/errno.ts";
import { withLimits } from "../../../src/control/limits.ts";
import { diskOf } from "../../disks.ts";

const DISK = diskOf({ size: 1 << 20, blockBits: 9, physicalBits: 12 });

describe("block sizes", () => {
  test.each([
    [{}, 9, 12],
    [{ logicalBlock: 4096 }, 12, 12],
    [{ logicalBlock: 1024 }, 10, 12],
    [{ physicalBlock: 65536 }, 9, 16],
    [{ physicalBlock: 512 }, 9, 9],
    [{ logicalBlock: 4096, physicalBlock: 4096 }, 12, 12],
  ])("%j", (asked, blockBits, physicalBits) => {
    expect(withLimits(DISK, asked)).toEqual({ ...DISK, blockBits, physicalBits });
  });

  test("the physical one is never below the logical one that was asked for", () => {
    const small = diskOf({ physicalBits: 9 });
    expect(withLimits(small, { logicalBlock: 4096 }).physicalBits).toBe(12);
  });

  test.each([
    [diskOf({ blockBits: 12 }), { logicalBlock: 512 }, "needs at least 4096"],
    [diskOf({ size: 4096 + 512 }), { logicalBlock: 4096 }, "4608 bytes are no multiple"],
    [DISK, { logicalBlock: 4096, physicalBlock: 512 }, "the logical block size is 4096"],
  ])("that cannot work are refused", (disk, asked, reason) => {
    expect(() => withLimits(disk, asked)).toThrow(SysError);
    expect(() => withLimits(disk, asked)).toThrow(reason);
  });
});

test("a disk rotates when it does, or when that is asked for", () => {
  expect(withLimits(DISK, {}).rotational).toBe(false);
  expect(withLimits(DISK, { rotational: true }).rotational).toBe(true);
  expect(withLimits(diskOf({ rotational: true }), {}).rotational).toBe(true);
});
