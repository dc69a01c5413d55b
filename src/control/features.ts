/** What the driver offers, and what we ask of it: the only file that decides a UBLK_F_ flag. */

import { EINVAL, EOPNOTSUPP, SysError } from "../../ffi/errno.ts";
import { FEATURES, type FeatureFlag } from "../../ffi/ublk_cmd.ts";
import type { Disk } from "../target/target.ts";
import type { Mode } from "../target/thread_shape.ts";

export function flagBit(flag: FeatureFlag): bigint {
  return 1n << BigInt(FEATURES.findIndex((feature) => feature.flag === flag));
}

export function has(flags: bigint, flag: FeatureFlag): boolean {
  return (flags & flagBit(flag)) !== 0n;
}

export interface FlagNames {
  mask: bigint;
  /** As `list` and ublksrv have it. */
  word: string;
  /** As the UAPI has it. */
  name: string;
}

/** Of each set bit, in bit order; one that this version has no name for keeps its number. */
export function flagNames(flags: bigint): FlagNames[] {
  const names: FlagNames[] = [];
  for (let bit = 0n; flags >> bit > 0n; bit++) {
    if (((flags >> bit) & 1n) === 0n) continue;
    const { short: word, flag: name } = FEATURES[Number(bit)] ?? { short: `BIT_${bit}`, flag: "" };
    names.push({ mask: 1n << bit, word, name });
  }
  return names;
}

export const flagWords = (flags: bigint): string[] => flagNames(flags).map(({ word }) => word);

/** The flags that make a mode. */
const MODE_FLAGS: Record<Mode, FeatureFlag[]> = {
  copy: [],
  "get-data": ["UBLK_F_NEED_GET_DATA"],
  "user-copy": ["UBLK_F_USER_COPY"],
  "zero-copy": ["UBLK_F_SUPPORT_ZERO_COPY", "UBLK_F_USER_COPY"],
  "auto-zero-copy": ["UBLK_F_AUTO_BUF_REG", "UBLK_F_SUPPORT_ZERO_COPY"],
};

/**
 * What becomes of IO when the server dies. In all of them but "none" another server can take over:
 * what was in flight fails and what is new waits ("wait"), both wait ("reissue"), or both fail
 * ("fail").
 */
export type Recovery = "none" | "wait" | "reissue" | "fail";

const RECOVERY_FLAGS: Record<Recovery, FeatureFlag[]> = {
  none: [],
  wait: ["UBLK_F_USER_RECOVERY"],
  reissue: ["UBLK_F_USER_RECOVERY", "UBLK_F_USER_RECOVERY_REISSUE"],
  fail: ["UBLK_F_USER_RECOVERY", "UBLK_F_USER_RECOVERY_FAIL_IO"],
};

/** What the user asked for, as far as it becomes flags; plain data. */
export interface AskedFeatures {
  /** "zero-copy-best": the better of the two zero copies that the kernel has. */
  mode: Mode | "zero-copy-best" | "choose";
  /** Left to us, like the mode, unless the mode is named. */
  batch: boolean;
  compInTask: boolean;
  /** More threads than queues: the tags of one queue have different servers. */
  splitQueues: boolean;
  noPartScan: boolean;
  recovery: Recovery;
  /** For an ordinary user; the driver clears the flag when root asks. */
  unprivileged: boolean;
}

export interface Chosen {
  mode: Mode;
  flags: bigint;
}

/**
 * Asked, offered and what the disk is like, to mode and flags for ADD_DEV. The driver adds flags
 * that it always has. Throws when what was asked for is not offered.
 */
export function choose(asked: AskedFeatures, offered: bigint, disk: Disk): Chosen {
  const mode = chooseMode(asked, offered, disk);
  const batch = asked.batch || choosesBatch(asked, offered);
  const wanted: FeatureFlag[] = ["UBLK_F_CMD_IOCTL_ENCODE", ...MODE_FLAGS[mode]];
  wanted.push(...recoveryFlags(asked.recovery, offered));
  // A target that must see bytes gets at them by user copy, beside the registered buffer.
  if (mode === "auto-zero-copy" && disk.touchesBytes) wanted.push("UBLK_F_USER_COPY");
  if (batch) wanted.push("UBLK_F_BATCH_IO");
  if (asked.noPartScan) wanted.push("UBLK_F_NO_AUTO_PART_SCAN");
  if (asked.unprivileged) wanted.push("UBLK_F_UNPRIVILEGED_DEV");
  if (asked.splitQueues) wanted.push("UBLK_F_PER_IO_DAEMON");
  mustOffer(wanted, offered, {
    op: "choose mode",
    subject: asked.batch ? `batch, ${mode}` : mode,
    hint: "ublk features shows what it has; without options the best mode is chosen",
  });
  if (asked.compInTask) wanted.push("UBLK_F_URING_CMD_COMP_IN_TASK");
  return { mode, flags: wanted.reduce((flags, flag) => flags | flagBit(flag), 0n) };
}

function recoveryFlags(recovery: Recovery, offered: bigint): FeatureFlag[] {
  const flags = RECOVERY_FLAGS[recovery];
  mustOffer(flags, offered, {
    op: "choose recovery",
    subject: recovery,
    hint: "ublk features shows what it has; -r and -i need less than -e",
  });
  // It changes nothing until an upgrade makes use of it.
  const quiesce = recovery !== "none" && has(offered, "UBLK_F_QUIESCE");
  return quiesce ? [...flags, "UBLK_F_QUIESCE"] : flags;
}

/**
 * What was measured fastest (test/bench/RESULTS.md): automatic zero copy, for null too, with batch
 * commands where the driver has them.
 */
function chooseMode(asked: AskedFeatures, offered: bigint, disk: Disk): Mode {
  const auto = has(offered, "UBLK_F_AUTO_BUF_REG");
  if (asked.mode === "zero-copy-best") return checked(auto ? "auto-zero-copy" : "zero-copy", disk);
  if (asked.mode !== "choose") return checked(asked.mode, disk);
  // Copying is all that the driver trusts an ordinary user with.
  return auto && !asked.unprivileged && !disk.copyOnly ? "auto-zero-copy" : "copy";
}

/**
 * A batch queue has one thread, and root's. A device that outlives its server goes without: while
 * QUIESCE_DEV waits, new IO of batch queues fails (control/quiesce.ts).
 */
function choosesBatch(asked: AskedFeatures, offered: bigint): boolean {
  const may = asked.mode === "choose" && !asked.splitQueues && !asked.unprivileged;
  return may && asked.recovery === "none" && has(offered, "UBLK_F_BATCH_IO");
}

/** Bytes that nobody filled in are, but for our own buffers, kernel memory of somebody else. */
function checked(mode: Mode, disk: Disk): Mode {
  if (!disk.copyOnly || mode === "copy" || mode === "get-data") return mode;
  throw new SysError({
    op: "choose mode",
    errno: EINVAL,
    subject: mode,
    reason: "a disk that leaves READ unfilled would show kernel memory",
    hint: "leave --no-fill away, or take --mode copy",
  });
}

/** Throws when the driver lacks one of `wanted`; `what` says what they were for. */
function mustOffer(
  wanted: FeatureFlag[],
  offered: bigint,
  what: { op: string; subject: string; hint: string },
): void {
  const lacking = wanted.filter((flag) => !has(offered, flag));
  if (lacking.length === 0) return;
  const reason = `this kernel's driver lacks ${lacking.join(", ")}`;
  throw new SysError({ ...what, errno: EOPNOTSUPP, reason });
}

/** The mode that a device's flags stand for, whoever made it. */
export function modeOf(flags: bigint): Mode {
  if (has(flags, "UBLK_F_AUTO_BUF_REG")) return "auto-zero-copy";
  if (has(flags, "UBLK_F_SUPPORT_ZERO_COPY")) return "zero-copy";
  if (has(flags, "UBLK_F_USER_COPY")) return "user-copy";
  return has(flags, "UBLK_F_NEED_GET_DATA") ? "get-data" : "copy";
}

/** What a device's flags say of the time after its server. */
export function recoveryOf(flags: bigint): Recovery {
  if (!has(flags, "UBLK_F_USER_RECOVERY")) return "none";
  if (has(flags, "UBLK_F_USER_RECOVERY_FAIL_IO")) return "fail";
  return has(flags, "UBLK_F_USER_RECOVERY_REISSUE") ? "reissue" : "wait";
}
