/** What the driver offers, and what we ask of it: the only file that decides a UBLK_F_ flag. */

import { FEATURES, type FeatureFlag } from "../../ffi/ublk_cmd.ts";

export function flagBit(flag: FeatureFlag): bigint {
  return 1n << BigInt(FEATURES.findIndex((feature) => feature.flag === flag));
}

/** One word a set bit, in bit order; a bit that this version has no name for keeps its number. */
export function flagWords(flags: bigint): string[] {
  const words: string[] = [];
  for (let bit = 0n; flags >> bit > 0n; bit++) {
    if ((flags >> bit) & 1n) words.push(FEATURES[Number(bit)]?.short ?? `BIT_${bit}`);
  }
  return words;
}

/** What the user asked for, as far as it becomes flags. */
export interface AskedFeatures {
  compInTask: boolean;
}

/** The flags for ADD_DEV: asked and offered. The driver adds those that it always has. */
export function chooseFlags(asked: AskedFeatures, offered: bigint): bigint {
  let flags = flagBit("UBLK_F_CMD_IOCTL_ENCODE");
  if (asked.compInTask) flags |= flagBit("UBLK_F_URING_CMD_COMP_IN_TASK");
  return flags & offered;
}
