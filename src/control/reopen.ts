/** The disk of a device that another server takes over, opened once more. */

import { ETIMEDOUT, SysError } from "../../ffi/errno.ts";
import type { Disk, OpenDisk } from "../target/target.ts";
import type { Channel } from "./command.ts";
import * as device from "./device.ts";
import { withLimits } from "./limits.ts";
import { isTaken, openDisk } from "./open_disk.ts";
import type { RecoverPlan } from "./recover.ts";
import { refuseServed } from "./recoverable.ts";
import { retry, type Say } from "./retry.ts";
import { filesOf, isSameFile } from "./same_files.ts";
import type { Host } from "./server.ts";
import { readState } from "./state.ts";

const SECTOR = 512;
const IMAGE_WAIT_MS = 30_000;
const PAUSE_MS = 20;

/**
 * Waits for the image's lock; the disk has the size and the blocks of the block device. `files`:
 * what it was kept in; undefined where nobody noted it.
 */
export async function reopen(
  channel: Channel,
  plan: RecoverPlan,
  host: Pick<Host, "target" | "secret">,
  say: Say,
  files = readState(plan.id)?.files,
): Promise<OpenDisk> {
  const { basic } = await device.getParams(channel, plan.id);
  const size = Number(basic.dev_sectors ?? 0) * SECTOR;
  const open = await waitForImage(channel, plan, host, size, say);
  try {
    refuseOther(plan, open.disk, files);
    const disk = fitted(plan, open.disk, size, basic.logical_bs_shift ?? 0);
    return { ...open, disk: withLimits(disk, plan.limits) };
  } catch (error) {
    open.close();
    throw error;
  }
}

async function waitForImage(
  channel: Channel,
  plan: RecoverPlan,
  host: Pick<Host, "target" | "secret">,
  size: number,
  say: Say,
): Promise<OpenDisk> {
  let holder: SysError | undefined;
  const attempt = async (): Promise<OpenDisk | undefined> => {
    try {
      return openDisk(plan, host, { id: plan.id, size });
    } catch (error) {
      if (!isTaken(error)) throw error;
      holder = error;
    }
    refuseServed(await device.getDevInfo(channel, plan.id), plan.how);
    return undefined;
  };
  const hint = "whoever has it open: the last server, qemu, or another recovery";
  const bound = { ms: IMAGE_WAIT_MS, pause: PAUSE_MS, what: "for the image's lock", hint };
  try {
    return await retry(attempt, bound, say);
  } catch (error) {
    throw error instanceof SysError && error.errno === ETIMEDOUT ? (holder ?? error) : error;
  }
}

/**
 * A file that took the name of its image, the first one, is not the disk that is mounted above. The
 * files behind that one may have been moved, and the image told so.
 */
function refuseOther(plan: RecoverPlan, disk: Disk, [before]: string[] = []): void {
  const { id, how } = plan;
  const [now = ""] = filesOf(disk.files);
  if (before === undefined || plan.anyFile === true || isSameFile(before, now)) return;
  const name = disk.report["backing_file"];
  const reason = `was kept in another file than what has the name ${name} now`;
  const hint = `put that file back; or, if it is that disk, ublk recover -n ${id} -f ${name}`;
  throw new SysError({ op: how, errno: 0, subject: `device ${id}`, reason, hint });
}

/** The block device keeps its size and its blocks; the disk must still be able to have them. */
function fitted(plan: RecoverPlan, disk: Disk, size: number, blockBits: number): Disk {
  const facts = { op: plan.how, errno: 0, subject: `device ${plan.id}` };
  if (disk.size < size) {
    const reason = `has ${size} bytes, but what it is kept in only ${disk.size} now`;
    throw new SysError({ ...facts, reason, hint: "make that as large again, and try again" });
  }
  if (disk.blockBits > blockBits) {
    const [block, least] = [2 ** blockBits, 2 ** disk.blockBits];
    const reason = `has blocks of ${block} bytes, but what it is kept in needs ${least}`;
    throw new SysError({ ...facts, reason, hint: "move the file back to where it was" });
  }
  return { ...disk, size, blockBits };
}
