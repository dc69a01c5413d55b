/**
 * The byte-range locks with which qemu guards an image (its block/file-posix.c), so that qemu and
 * we, and two of us, never write to one image together.
 *
 * Whoever uses permission i holds a shared lock on byte 100 + i; whoever does not want others to
 * use it holds one on byte 200 + i. To look for a conflict is to ask whether the opposite byte
 * could be locked exclusively. The locks belong to the open file (F_OFD_*), so they outlive the
 * thread that took them and go with the last descriptor.
 */

import { EAGAIN, SysError } from "../../ffi/errno.ts";
import { fcntl } from "../../ffi/libc.ts";

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const FLOCK_SIZE = 32;

const USES_BASE = 100;
const REFUSES_BASE = 200;
const CONSISTENT_READ = 0;
const WRITE = 1;
const RESIZE = 3;
const PERMISSIONS = 64;
const END_IT = "end that use first";
const NO_LOCKS = "its file system has no locks (fcntl F_OFD_SETLK): on NFS start the lock service";

/**
 * Takes the locks of a reader or of a writer; throws when somebody else's stand against it.
 * `mayShare`: the verb knows --read-only.
 */
export function lockImage(fd: number, path: string, readOnly: boolean, mayShare = true): void {
  if (takesLocks(fd, path, readOnly)) return;
  throw new SysError({
    op: "lock",
    errno: EAGAIN,
    subject: path,
    reason: "is in use: another ublk device, qemu or qemu-nbd has it open",
    hint: mayShare ? "end that use first; readers can share it with --read-only" : END_IT,
  });
}

/** False where somebody else's stand against it. */
function takesLocks(fd: number, path: string, readOnly: boolean): boolean {
  const uses = readOnly ? [CONSISTENT_READ] : [CONSISTENT_READ, WRITE];
  const refuses = [WRITE, RESIZE];
  try {
    // Take first and look afterwards: of two who come together, at least one sees the other.
    for (const permission of uses) lockByte(fd, USES_BASE + permission);
    for (const permission of refuses) lockByte(fd, REFUSES_BASE + permission);
    return (
      uses.every((permission) => isFree(fd, REFUSES_BASE + permission)) &&
      refuses.every((permission) => isFree(fd, USES_BASE + permission))
    );
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    if (error.errno === EAGAIN) return false; // a lock on everything, which none of qemu's is
    throw new SysError({ ...error.facts(), subject: path, hint: NO_LOCKS });
  }
}

/**
 * Lets go of the locks at once. Closing is not enough: a ring that had the file registered keeps
 * it open until the kernel has taken the ring apart, some time after its descriptor is gone.
 */
export function unlockImage(fd: number): void {
  // From the first byte of all to the last.
  const bytes = REFUSES_BASE + PERMISSIONS - USES_BASE;
  fcntl(fd, F_OFD_SETLK, flock(F_UNLCK, USES_BASE, bytes), "fcntl F_OFD_SETLK");
}

function lockByte(fd: number, byte: number): void {
  fcntl(fd, F_OFD_SETLK, flock(F_RDLCK, byte), "fcntl F_OFD_SETLK");
}

function isFree(fd: number, byte: number): boolean {
  const lock = flock(F_WRLCK, byte);
  fcntl(fd, F_OFD_GETLK, lock, "fcntl F_OFD_GETLK");
  return new DataView(lock.buffer).getInt16(0, true) === F_UNLCK;
}

/** struct flock, counted from the start of the file. */
function flock(type: number, from: number, length = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(FLOCK_SIZE));
  const view = new DataView(bytes.buffer);
  view.setInt16(0, type, true);
  view.setBigInt64(8, BigInt(from), true);
  view.setBigInt64(16, BigInt(length), true);
  return bytes;
}
