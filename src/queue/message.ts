/**
 * What the process's main thread has to say to a queue's thread, which sleeps in its ring and hears
 * no JavaScript message: a completion put into that ring, with all of it in its words.
 */

import { EIO, SysError } from "../../ffi/errno.ts";
import { prepMessage, setUserData } from "../../ffi/io_uring.ts";
import { KernelRing } from "../../ffi/kernel_ring.ts";
import { KIND_RESIZE, userMeta } from "./user_data.ts";

const SECTOR = 512;
const TWO_32 = 2 ** 32;
/** The kernel answers at once. */
const PATIENCE_MS = 5000;

/** Tells the loop of another thread's ring that the disk gets another size. Throws SysError. */
export function tellSize(ringFd: number, size: number): void {
  const sectors = size / SECTOR;
  const ring = new KernelRing(1, [0]);
  try {
    const sqe = ring.nextSqe();
    const meta = userMeta(KIND_RESIZE, 0);
    prepMessage(ring.sqes, sqe, ringFd, sectors % TWO_32, meta, Math.floor(sectors / TWO_32));
    setUserData(ring.sqes, sqe, 0, 0);
    const res = ring.waitFor(PATIENCE_MS) ? ring.cqRes() : -EIO;
    if (res < 0) throw new SysError({ op: "io_uring MSG_RING", errno: -res });
  } finally {
    ring.close();
  }
}

/** The size that such a completion speaks of: its slot is the low word of the sectors. */
export function sizeIn(slot: number, res: number): number {
  return ((slot >>> 0) + res * TWO_32) * SECTOR;
}
