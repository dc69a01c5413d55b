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
import type { Host } from "./server.ts";

const IMAGE_WAIT_MS = 30_000;
const PAUSE_MS = 20;

/** Waits for the image's lock; the disk fits the block device. */
export async function reopen(
  channel: Channel,
  plan: RecoverPlan,
  host: Host,
  say: Say,
): Promise<OpenDisk> {
  const open = await waitForImage(channel, plan, host, say);
  const disk = await fitted(channel, plan, withLimits(open.disk, plan.limits));
  return { ...open, disk };
}

async function waitForImage(
  channel: Channel,
  plan: RecoverPlan,
  host: Host,
  say: Say,
): Promise<OpenDisk> {
  let holder: SysError | undefined;
  const attempt = async (): Promise<OpenDisk | undefined> => {
    try {
      return openDisk(plan, host, plan.id);
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

/** The block device keeps its size and its blocks; the disk must still be able to have them. */
async function fitted(channel: Channel, plan: RecoverPlan, disk: Disk): Promise<Disk> {
  const { basic } = await device.getParams(channel, plan.id);
  const size = Number(basic.dev_sectors ?? 0) * 512;
  const block = 2 ** (basic.logical_bs_shift ?? 0);
  const facts = { op: plan.how, errno: 0, subject: `device ${plan.id}` };
  if (disk.size < size) {
    const reason = `has ${size} bytes, but what it is kept in only ${disk.size} now`;
    throw new SysError({ ...facts, reason, hint: "make that as large again, and try again" });
  }
  if (2 ** disk.blockBits > block) {
    const reason = `has blocks of ${block} bytes, but what it is kept in needs ${2 ** disk.blockBits}`;
    throw new SysError({ ...facts, reason, hint: "move the file back to where it was" });
  }
  return { ...disk, size };
}
