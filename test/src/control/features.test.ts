/** src/control/features.ts: what is asked of what is offered, for which disk. */

import { describe, expect, test } from "bun:test";
import { SysError } from "../../../ffi/errno.ts";
import { FEATURES } from "../../../ffi/ublk_cmd.ts";
import {
  type AskedFeatures,
  choose,
  flagBit,
  flagWords,
  has,
  modeOf,
  type Recovery,
  recoveryOf,
} from "../../../src/control/features.ts";
import type { Disk } from "../../../src/target/target.ts";
import { type Mode, MODES } from "../../../src/target/thread_shape.ts";
import { diskOf } from "../../disks.ts";
import { thrown } from "../../temp.ts";

/** GET_FEATURES of booted kernels. */
const LINUX_6_12 = 0x1fen;
const LINUX_6_18 = 0x7fffn;
const LINUX_7_2 = 0xfffffn;
const ALL = 2n ** 63n - 1n;
const WITH_FILE: Partial<Disk> = { files: [5] };

function chosen(asked: Partial<AskedFeatures>, offered = LINUX_7_2, disk = WITH_FILE) {
  const rest = {
    unprivileged: false,
    batch: false,
    compInTask: false,
    splitQueues: false,
    noPartScan: false,
  };
  const all = { mode: "choose" as const, recovery: "none" as const, ...rest };
  return choose({ ...all, ...asked }, offered, diskOf(disk));
}

test("a flag is its bit", () => {
  expect(flagBit("UBLK_F_SUPPORT_ZERO_COPY")).toBe(1n);
  expect(flagBit("UBLK_F_CMD_IOCTL_ENCODE")).toBe(1n << 6n);
  expect(flagBit("UBLK_F_IO_DESC_SIZE")).toBe(1n << 20n);
});

test("flags are named in the order of their bits, and strange ones by number", () => {
  expect(flagWords(0n)).toEqual([]);
  expect(flagWords(0b1000001n)).toEqual(["SUPPORT_ZERO_COPY", "CMD_IOCTL_ENCODE"]);
  expect(flagWords((1n << 40n) | (1n << 3n))).toEqual(["RECOVERY", "BIT_40"]);
});

test("every flag has a short name, and no two share one", () => {
  const names = FEATURES.map(({ short }) => short);
  expect(new Set(names).size).toBe(names.length);
  expect(names.every((name) => /^[A-Z_]+$/.test(name))).toBe(true);
});

describe("left to us, the mode is", () => {
  test.each([
    ["automatic zero copy", LINUX_7_2, WITH_FILE, "auto-zero-copy"],
    ["automatic zero copy for a disk without files too", LINUX_7_2, {}, "auto-zero-copy"],
    ["copy where READ leaves bytes unfilled", LINUX_7_2, { copyOnly: true }, "copy"],
    ["copy on a kernel without zero copy", LINUX_6_12, WITH_FILE, "copy"],
  ] as [string, bigint, Partial<Disk>, Mode][])("%s", (_, offered, disk, mode) => {
    expect(chosen({}, offered, disk).mode).toBe(mode);
  });

  test("with batch commands where the kernel has them and nothing speaks against them", () => {
    const batch = (asked: Partial<AskedFeatures>, offered?: bigint): boolean =>
      has(chosen(asked, offered).flags, "UBLK_F_BATCH_IO");
    expect([batch({}), batch({}, LINUX_6_18), batch({}, LINUX_6_12)]).toEqual([true, false, false]);
    expect(batch({ splitQueues: true })).toBe(false);
    expect(batch({ unprivileged: true })).toBe(false);
    expect(batch({ recovery: "reissue" })).toBe(false);
    expect(batch({ mode: "auto-zero-copy" })).toBe(false);
  });
});

describe("a mode that is asked for", () => {
  test.each(MODES.map((mode) => [mode] as [Mode]))("%s is what the flags say", (mode) => {
    const { mode: got, flags } = chosen({ mode });
    expect(got).toBe(mode);
    expect(modeOf(flags)).toBe(mode);
  });

  test("is refused where the kernel lacks it, by the flags that it lacks", () => {
    const error = thrown(() => chosen({ mode: "auto-zero-copy" }, LINUX_6_12)) as SysError;
    expect(error).toBeInstanceOf(SysError);
    expect(error.message).toContain("UBLK_F_AUTO_BUF_REG");
    expect(error.message).toContain("UBLK_F_SUPPORT_ZERO_COPY");
    expect(error.hint).toContain("ublk features");
  });

  test("the best zero copy is the automatic one where there is one", () => {
    expect(chosen({ mode: "zero-copy-best" }).mode).toBe("auto-zero-copy");
    const without = LINUX_7_2 & ~flagBit("UBLK_F_AUTO_BUF_REG");
    expect(chosen({ mode: "zero-copy-best" }, without).mode).toBe("zero-copy");
    expect(() => chosen({ mode: "zero-copy-best" }, LINUX_6_12)).toThrow(SysError);
  });
});

test("bytes that nobody fills in are shown from our own buffers only", () => {
  const unfilled: Partial<Disk> = { copyOnly: true };
  for (const mode of ["user-copy", "zero-copy", "auto-zero-copy", "zero-copy-best"] as const) {
    expect(() => chosen({ mode }, LINUX_7_2, unfilled)).toThrow("would show kernel memory");
  }
  for (const mode of ["copy", "get-data"] as const) {
    expect(chosen({ mode }, LINUX_7_2, unfilled).mode).toBe(mode);
  }
});

test("an ordinary user's device copies, unless get-data is asked for", () => {
  const { mode, flags } = chosen({ unprivileged: true });
  expect([mode, has(flags, "UBLK_F_UNPRIVILEGED_DEV")]).toEqual(["copy", true]);
  expect(chosen({ unprivileged: true, mode: "get-data" }).mode).toBe("get-data");
  expect(has(chosen({}).flags, "UBLK_F_UNPRIVILEGED_DEV")).toBe(false);
});

describe("flags", () => {
  test("a target that must see bytes gets user copy beside automatic zero copy", () => {
    const disk = { ...WITH_FILE, touchesBytes: true };
    expect(has(chosen({ mode: "auto-zero-copy" }, LINUX_7_2, disk).flags, "UBLK_F_USER_COPY")).toBe(
      true,
    );
    expect(has(chosen({ mode: "auto-zero-copy" }).flags, "UBLK_F_USER_COPY")).toBe(false);
    expect(has(chosen({ mode: "copy" }, LINUX_7_2, disk).flags, "UBLK_F_USER_COPY")).toBe(false);
  });

  test("batch commands are asked for and refused by name", () => {
    expect(has(chosen({ batch: true }).flags, "UBLK_F_BATCH_IO")).toBe(true);
    expect(() => chosen({ batch: true }, LINUX_6_18)).toThrow("UBLK_F_BATCH_IO");
  });

  test("the search for partitions is switched off by name", () => {
    expect(has(chosen({ noPartScan: true }).flags, "UBLK_F_NO_AUTO_PART_SCAN")).toBe(true);
    expect(() => chosen({ noPartScan: true }, LINUX_6_18)).toThrow("UBLK_F_NO_AUTO_PART_SCAN");
  });

  test("a queue with several servers needs PER_IO_DAEMON", () => {
    expect(has(chosen({ splitQueues: true }).flags, "UBLK_F_PER_IO_DAEMON")).toBe(true);
    expect(() => chosen({ splitQueues: true }, LINUX_6_12)).toThrow("UBLK_F_PER_IO_DAEMON");
  });

  test("commands are always the encoded ones, COMP_IN_TASK only when asked for", () => {
    expect(chosen({ mode: "copy" }).flags).toBe(flagBit("UBLK_F_CMD_IOCTL_ENCODE"));
    const flags = chosen({ mode: "copy", compInTask: true }).flags;
    expect(has(flags, "UBLK_F_URING_CMD_COMP_IN_TASK")).toBe(true);
  });

  test("nothing that we do not understand is ever asked for", () => {
    const known = FEATURES.reduce((flags, { flag }) => flags | flagBit(flag), 0n);
    for (const mode of MODES) {
      const { flags } = chosen({ mode, batch: mode !== "get-data" }, ALL);
      expect(flags & ~known).toBe(0n);
      expect(has(flags, "UBLK_F_IO_DESC_SIZE")).toBe(false);
    }
  });
});

describe("recovery", () => {
  const KINDS: Recovery[] = ["none", "wait", "reissue", "fail"];
  test.each(KINDS)("%s is what the flags say", (recovery) => {
    const { flags } = chosen({ recovery });
    expect(recoveryOf(flags)).toBe(recovery);
    expect(has(flags, "UBLK_F_QUIESCE")).toBe(recovery !== "none");
  });

  test("works without QUIESCE, and is refused by the name of what is lacking", () => {
    expect(recoveryOf(chosen({ recovery: "reissue" }, LINUX_6_12).flags)).toBe("reissue");
    expect(has(chosen({ recovery: "wait" }, LINUX_6_12).flags, "UBLK_F_QUIESCE")).toBe(false);
    const refusal = thrown(() => chosen({ recovery: "fail" }, LINUX_6_12)) as SysError;
    expect(refusal.message).toContain("lacks UBLK_F_USER_RECOVERY_FAIL_IO");
    expect(refusal.hint).toContain("ublk features");
  });
});
