/** Another size for a disk that is a file's or a block device's own bytes, from an offset on. */

import { fstatSync, fsyncSync, ftruncateSync } from "node:fs";
import { EINVAL, EROFS, SysError, trySys } from "../../ffi/errno.ts";
import { FILE_END_MAX } from "../../ffi/io_uring.ts";
import { deviceSize } from "./backing_limits.ts";

export interface BackingRange {
  fd: number;
  path: string;
  /** Where the disk begins, in bytes. */
  offset: number;
  readOnly: boolean;
}

/** Bytes from the offset to the end as it is now, whole blocks of them. */
export function backingSize(range: BackingRange, block: number): number {
  return Math.floor(Math.max(0, endOf(range) - range.offset) / block) * block;
}

/** Throws SysError when the backing cannot follow the disk from one size to the other. */
export function checkBackingSize(
  range: BackingRange,
  from: number,
  to: number,
  block: number,
): void {
  const now = backingSize(range, block);
  if (range.offset + to > FILE_END_MAX) {
    throw refused(range, EINVAL, "would end behind the 4 PiB that can be served");
  }
  if (to === now) return;
  if (range.readOnly) throw refused(range, EROFS, "is open read-only: it keeps its size");
  if (deviceSize(range.fd) !== undefined) {
    const reason = `is a block device of ${now} bytes here: it is not resized by us`;
    throw refused(range, EINVAL, reason, "resize it, and then say ublk resize without --size");
  }
  if (to > from && to < now) {
    const reason = `has ${now} bytes for the disk already: it is not cut to make the disk larger`;
    throw refused(range, EINVAL, reason, "without --size the disk takes all of them");
  }
}

/**
 * Makes a file end where the disk does, but for less than a block that it has more. What a block
 * device has was looked at before.
 */
export function setBackingSize(range: BackingRange, to: number, block: number): void {
  if (deviceSize(range.fd) !== undefined || backingSize(range, block) === to) return;
  trySys("ftruncate", range.path, () => {
    ftruncateSync(range.fd, range.offset + to);
    fsyncSync(range.fd);
  });
}

function endOf({ fd }: BackingRange): number {
  return deviceSize(fd) ?? fstatSync(fd).size;
}

function refused(range: BackingRange, errno: number, reason: string, hint?: string): SysError {
  const facts = { op: "resize", errno, subject: range.path, reason };
  return new SysError(hint === undefined ? facts : { ...facts, hint });
}
