/** Stops a device only where nobody uses it. */

import { readdirSync, readlinkSync } from "node:fs";
import { EBUSY, ENODEV, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import type { Channel } from "./command.ts";
import { blockDevice, getFeatures, stopDevice, tryStopDevice } from "./device.ts";
import { has } from "./features.ts";

/**
 * Throws EBUSY while the block device is open. TRY_STOP_DEV looks and stops in one step. An older
 * driver has only a look beforehand: at mounts and the like, by opening it exclusively, and at the
 * files of all processes; whoever opens it after that look loses it.
 */
export async function safeStop(channel: Channel, id: number): Promise<void> {
  if (!has(await getFeatures(channel), "UBLK_F_SAFE_STOP_DEV")) return lookAndStop(channel, id);
  try {
    await tryStopDevice(channel, id);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    if (error.errno === EBUSY) throw inUse(id, "it is open");
    if (error.errno !== ENODEV) throw error; // stopped already
  }
}

async function lookAndStop(channel: Channel, id: number): Promise<void> {
  const path = blockDevice(id);
  let fd: number;
  try {
    fd = libc.open(path, libc.O_RDONLY | libc.O_EXCL);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    if (error.errno === EBUSY) throw inUse(id, "it is mounted, or a part of another device");
    if (error.errno === ENODEV) return; // stopped already
    throw error;
  }
  try {
    const user = whoHasOpen(path);
    if (user !== undefined) throw inUse(id, `process ${user} has it open`);
    await stopDevice(channel, id);
  } finally {
    libc.close(fd);
  }
}

/** A process, other than this one, that has the device or a part of it open. */
export function whoHasOpen(path: string): string | undefined {
  const part = RegExp(`^${path}(p\\d+)?$`);
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.find(
    (pid) => pid !== String(process.pid) && openFiles(pid).some((file) => part.test(file)),
  );
}

function openFiles(pid: string): string[] {
  try {
    const dir = `/proc/${pid}/fd`;
    return readdirSync(dir).map((fd) => readlinkSync(`${dir}/${fd}`));
  } catch {
    return []; // it has just ended
  }
}

function inUse(id: number, why: string): SysError {
  const hint = "end that use first; without --safe the device is stopped all the same";
  return new SysError({
    op: "stop",
    errno: EBUSY,
    subject: `device ${id}`,
    reason: `is in use: ${why}`,
    hint,
  });
}
