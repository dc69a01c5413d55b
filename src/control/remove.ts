/** Ends a device from outside its daemon: stop, wait, delete. */

import { EACCES, ENODEV, EPERM, ETIMEDOUT, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import type { Channel } from "./command.ts";
import { deleteDevice, getDevInfo, stopDevice } from "./device.ts";
import { removeState } from "./state.ts";

const DAEMON_END_MS = 30_000;

/** Returns when the device is gone and the process that served it too. */
export async function removeDevice(channel: Channel, id: number): Promise<void> {
  const info = await getDevInfo(channel, id).catch((error: unknown) => {
    // A state file without a device is what a reloaded driver leaves.
    if (isGone(error)) removeState(id);
    throw error;
  });
  const daemon = openProcess(info.ublksrv_pid);
  await endDevice(channel, id);
  if (daemon < 0) return;
  const ended = libc.pollIn(daemon, DAEMON_END_MS);
  libc.close(daemon);
  if (ended) return;
  const hint = `the device is gone; look at the process: ps -fp ${info.ublksrv_pid}`;
  throw new SysError({ op: "wait for daemon", errno: ETIMEDOUT, hint });
}

/** Returns when the device is gone, whether or not we were the ones who ended it. */
export async function endDevice(channel: Channel, id: number): Promise<void> {
  try {
    await stopDevice(channel, id);
    await deleteDevice(channel, id);
  } catch (error) {
    if (!isGone(error)) throw error; // somebody else was told to end it at the same time
  }
  removeState(id);
}

/** There is no such device, or not any more. */
export function isGone(error: unknown): boolean {
  return error instanceof SysError && error.errno === ENODEV;
}

/** It is somebody else's, and we are not root. */
export function isDenied(error: unknown): boolean {
  return error instanceof SysError && (error.errno === EPERM || error.errno === EACCES);
}

/** -1 when there is no such process: nobody serves the device. */
function openProcess(pid: number): number {
  if (pid <= 0) return -1;
  try {
    return libc.pidfdOpen(pid);
  } catch {
    return -1;
  }
}
