/** Before a server is sent home: whether the next one would find the very files that it serves. */

import { type BigIntStats, closeSync, constants, openSync, readdirSync, statSync } from "node:fs";
import { SysError, trySys } from "../../ffi/errno.ts";

/** Of whom: a device and the process that serves it. */
interface Served {
  dev_id: number;
  ublksrv_pid: number;
}

/**
 * Throws when the next server would find nothing under one of the names, or another file.
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
