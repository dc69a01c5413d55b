/** Images with a few bytes changed, as a fault or a stranger would leave them. */

import { readFileSync, writeFileSync } from "node:fs";
import { must, qemuIo } from "./qemu.ts";
import { headerOf } from "./reference.ts";

/** A disk of 8 MiB with 1 MiB of data at its beginning, and 64 KiB at 4 MiB. */
export function image(path: string, options = "cluster_size=64k"): string {
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "8M"]);
  qemuIo(path, ["write -P 1 0 1M", "write -P 2 4M 64k"]);
  return path;
}

const OFFSET = 0x00ff_ffff_ffff_fe00n;

export interface Tables {
  l1: number;
  l2: number;
  /** The first cluster of the disk. */
  data: bigint;
  counts: number;
}

/** Changes the image's bytes; `at` tells where its tables are. */
export function change(path: string, how: (view: DataView, at: Tables) => void): void {
  const bytes = new Uint8Array(readFileSync(path));
  const view = new DataView(bytes.buffer);
  const { l1Offset, refcountTableOffset } = headerOf(bytes);
  const l2 = Number(view.getBigUint64(l1Offset) & OFFSET);
  how(view, {
    l1: l1Offset,
    l2,
    data: view.getBigUint64(l2) & OFFSET,
    counts: refcountTableOffset,
  });
  writeFileSync(path, bytes);
}
