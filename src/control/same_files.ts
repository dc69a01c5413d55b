/** Whether the next server of a device finds the very files that the last one served. */

import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  statfsSync,
  statSync,
} from "node:fs";
import { SysError, trySys } from "../../ffi/errno.ts";

/** Of whom: a device and the process that serves it. */
interface Served {
  dev_id: number;
  ublksrv_pid: number;
}

/**
 * Before a server is sent home: throws when the next one would find nothing under one of the
 * names, or another file.
 *
 * Afterwards there is no way back: a file that has no name any more goes with who has it open, and
 * one that took its name is not the disk that is mounted above.
 */
export function refuseOtherFiles(served: Served, paths: () => readonly string[]): void {
  try {
    const held = heldBy(served.ublksrv_pid);
    for (const path of paths()) refuseOther(served, path, held);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    throw error.withHint("its server goes on: put back what it was started with, and try again");
  }
}

function refuseOther(served: Served, path: string, held: Set<string> | undefined): void {
  const found = trySys("open", path, () => statSync(path, { bigint: true }));
  if (held === undefined) {
    // O_NONBLOCK: a FIFO would keep us waiting.
    const flags = constants.O_RDONLY | constants.O_NONBLOCK;
    return closeSync(trySys("open", path, () => openSync(path, flags)));
  }
  if (held.has(identity(found))) return;
  const reason = `${path} is not the file that its server has open`;
  throw new SysError({ op: "upgrade", errno: 0, subject: `device ${served.dev_id}`, reason });
}

/** What the process has open; undefined where we may not look. */
function heldBy(pid: number): Set<string> | undefined {
  const dir = `/proc/${pid}/fd`;
  try {
    return new Set(readdirSync(dir).map((fd) => openIdentity(`${dir}/${fd}`)));
  } catch {
    return undefined;
  }
}

function openIdentity(link: string): string {
  const found = statSync(link, { bigint: true, throwIfNoEntry: false });
  return found === undefined ? "closed meanwhile" : identity(found);
}

/** The same for two names of one file, and for two nodes of one block device. */
function identity(found: BigIntStats): string {
  return found.isBlockDevice() ? `block ${found.rdev}` : `file ${found.dev} ${found.ino}`;
}

/**
 * File systems that keep the number of a file: ext4, xfs, btrfs, f2fs, bcachefs, zfs, tmpfs, NFS,
 * overlayfs (include/uapi/linux/magic.h). vfat, exFAT, CIFS and what FUSE serves may give another
 * one whenever they look.
 */
const NUMBERS_LAST = new Set([
  0xef53, 0x58465342, 0x9123683e, 0xf2f52010, 0xca451a4e, 0x2fc12fc1, 0x01021994, 0x6969,
  0x794c7630,
]);

/** For the state file: what a disk's descriptors lead to, each once, in their order. */
export function filesOf(fds: readonly number[]): string[] {
  return [...new Set(fds.map(noted))];
}

function noted(fd: number): string {
  const found = identity(fstatSync(fd, { bigint: true }));
  const lasts = NUMBERS_LAST.has(statfsSync(`/proc/self/fd/${fd}`).type);
  return lasts || found.startsWith("block") ? found : found.replace("file", PASSING);
}

const PASSING = "passing";

/** Of two that `filesOf` has noted, perhaps with a mount in between; as far as can be told. */
export function isSameFile(one: string, other: string): boolean {
  if (one.startsWith(PASSING) && other.startsWith(PASSING)) return true;
  return lasting(one) === lasting(other);
}

/** A file system that has no device of its own (btrfs, NFS, tmpfs) gets a number a mount. */
function lasting(file: string): string {
  const [kind, device = "", inode] = file.split(" ");
  return kind === "file" && major(BigInt(device)) === 0n ? `file ${inode}` : file;
}

/** As the C library packs it into a dev_t. */
const major = (device: bigint): bigint => ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
