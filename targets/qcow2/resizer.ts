/** Which images can have another size while they are served; the server's side of resize.ts. */

import { EINVAL, SysError } from "../../src/target/file_io.ts";
import type { Resizer } from "../../src/target/target.ts";
import { readBitmaps } from "./bitmaps.ts";
import type { ChainImage } from "./chain.ts";
import * as q from "./format.ts";
import { isRawData, l2EntriesOf } from "./header.ts";

/** The engine does the work; here is what it relies on. `config` does not change. */
export function resizerOf(chain: ChainImage, readOnly: boolean, config: unknown): Resizer {
  return {
    found: () => undefined,
    check: (from, to) => {
      const [reason, hint] = whyNot(chain, readOnly, from, to);
      if (reason === undefined) return;
      const facts = { op: "resize", errno: EINVAL, subject: chain.path, reason };
      throw new SysError(hint === undefined ? facts : { ...facts, hint });
    },
    apply: () => {},
    config: () => config,
  };
}

/** As qemu-img has it, and where we know less, narrower. */
function whyNot(
  chain: ChainImage,
  readOnly: boolean,
  from: number,
  to: number,
): [reason?: string, hint?: string] {
  const header = chain.header!;
  if (readOnly) return ["is open read-only: it keeps its size"];
  const amend = "qemu-img amend -o compat=1.1 makes it one of version 3, while it is not served";
  if (header.version < 3 && header.snapshotCount > 0) {
    return ["is of version 2, whose snapshots do not know their size", amend];
  }
  if (header.version < 3 && to < from && chain.backing !== undefined) {
    return ["is of version 2, which cannot hide what its backing file has there", amend];
  }
  const { bitmaps } = readBitmaps(chain.file, header);
  if (bitmaps.length > 0) {
    const hint = "qemu-img bitmap --remove takes them out, while it is not served";
    return [`has ${bitmaps.length} bitmaps, which would keep the old size`, hint];
  }
  if (isRawData(header)) {
    const hint = "qemu-img resize does it while it is not served";
    return ["keeps its external data file as a raw image of the old size", hint];
  }
  const most = (q.L1_BYTES_MAX / 8) * header.clusterSize * l2EntriesOf(header);
  if (to > most) return [`holds ${most} bytes at the most, with clusters of ${header.clusterSize}`];
  return [];
}
