// Every way in which data and commands can travel, as options of `ublk add`.

import { FEATURES, type FeatureFlag } from "../../ffi/ublk_cmd.ts";

export interface Way {
  option: string;
  mode: string;
  needs: FeatureFlag[];
}

const COPY: Way = { option: "--mode copy", mode: "copy", needs: [] };
export const WAYS: Way[] = [
  COPY,
  { option: "-g", mode: "get-data", needs: ["UBLK_F_NEED_GET_DATA"] },
  { option: "--usercopy", mode: "user-copy", needs: ["UBLK_F_USER_COPY"] },
  { option: "--mode zero-copy", mode: "zero-copy", needs: ["UBLK_F_SUPPORT_ZERO_COPY"] },
  {
    option: "--mode zero-copy --zero-copy-min 0",
    mode: "zero-copy",
    needs: ["UBLK_F_SUPPORT_ZERO_COPY"],
  },
  { option: "-z", mode: "auto-zero-copy", needs: ["UBLK_F_AUTO_BUF_REG"] },
];
export const BATCHED: Way[] = WAYS.filter(({ mode }) => mode !== "get-data").map((way) => ({
  ...way,
  option: `${way.option} -b`,
  needs: [...way.needs, "UBLK_F_BATCH_IO"],
}));
export const THREADED: Way[] = [
  { ...COPY, option: "--mode copy -q 2 --threads 1" },
  { ...COPY, option: "--mode copy --threads 2", needs: ["UBLK_F_PER_IO_DAEMON"] },
];

/** `features`: what `ublk features` printed; its first line ends with the bits. */
export function offers(features: string, flag: FeatureFlag): boolean {
  const bits = BigInt(/0x[0-9a-f]+/.exec(features)?.[0] ?? 0);
  return ((bits >> BigInt(FEATURES.findIndex((one) => one.flag === flag))) & 1n) === 1n;
}
