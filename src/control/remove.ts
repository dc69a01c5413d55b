/** Ends a device from outside its daemon: stop, wait, delete. */

import { EACCES, EBUSY, EINVAL, ENODEV, EPERM, ETIMEDOUT, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import type { DevInfo } from "../../ffi/ublk_cmd.ts";
import type { Channel } from "./command.ts";
import { deleteDevice, deleteDeviceAsync, getDevInfo, stateName, stopDevice } from "./device.ts";
import { has } from "./features.ts";
import { inTurn } from "./in_turn.ts";
import { Identity } from "./nodes.ts";
import { hasThread, openProcess } from "./process.ts";
import { safeStop } from "./safe_stop.ts";
import { isServed } from "./served.ts";
import { readState, removeState } from "./state.ts";
import { takeoverBy } from "./takeover.ts";
import { within } from "./within.ts";

/** A server of ours ends with its device. */
const DAEMON_END_MS = 30_000;
/** Another program's may have more devices; a dead one's number may be a stranger's by now. */
const STRANGER_END_MS = 1000;
const LOOK_MS = 50;
const SLICE_MS = 10;

export interface HowToEnd {
  /** Refuse while somebody has the block device open. */
  safe?: boolean;
  /** Of stop: refuse while its server lives, or another one is about to take it over. */
  unserved?: boolean;
  /** Wait for nobody: neither for those who have the device open nor for its daemon. */
  async?: boolean;
}

/** Returns when the device is gone, and the process too that served it, if that was ours. */
export async function removeDevice(
  channel: Channel,
  id: number,
  how: HowToEnd = {},
): Promise<void> {
  const info = await getDevInfo(channel, id).catch((error: unknown) => {
    // A state file without a device is what a reloaded driver leaves.
    if (isGone(error)) removeState(id);
    throw error;
  });
  const which = new Identity(id); // whoever has the number now is meant
  if (how.async && has(info.flags, "UBLK_F_UNPRIVILEGED_DEV")) throw notAsync(id);
  const makeSafe = async (): Promise<void> => {
    // Asked anew: one that was about to begin may be live by now, and in use.
    if (!how.safe || stateName(await getDevInfo(channel, id)) === "DEAD") return;
    await safeStop(channel, id);
  };
  if (how.async) {
    await makeSafe();
    return removeAsync(channel, which);
  }
  await untilDaemonEnds(info, "gone", () => endDevice(channel, which, makeSafe));
}

/** Stops a device and leaves it there, DEAD; returns when our daemon has ended. */
export async function stopForGood(channel: Channel, id: number, how: HowToEnd = {}): Promise<void> {
  // Before the look, which sees who has taken over by then.
  const taker = how.unserved ? takeoverBy(id) : undefined;
  const info = await getDevInfo(channel, id);
  if (stateName(info) === "DEAD") return;
  if (how.unserved) refuseServed(info, taker);
  await untilDaemonEnds(info, "stopped", () =>
    how.safe ? safeStop(channel, id) : stopDevice(channel, id),
  );
}

function refuseServed(info: DevInfo, taker: number | undefined): void {
  const server = isServed(info) ? info.ublksrv_pid : taker;
  if (server === undefined) return;
  const subject = `device ${info.dev_id}`;
  const reason = `has a server, process ${server}`;
  const hint = "without --unserved it is stopped all the same";
  throw new SysError({ op: "stop", errno: EBUSY, subject, reason, hint });
}

/** The driver has forgotten the command where it judges by the path (ublk_drv.c up to 7.2). */
function notAsync(id: number): SysError {
  const subject = `device ${id}`;
  const reason = "an ordinary user's device is deleted by the driver only while somebody waits";
  return new SysError({ op: "--async", errno: EINVAL, subject, reason, hint: "leave it out" });
}

async function removeAsync(channel: Channel, which: Identity): Promise<void> {
  const remove = async () => which.isReplaced || deleteDeviceAsync(channel, which.id);
  await inTurn(which.id, remove).catch((error: unknown) => {
    if (!isGone(error)) throw error;
  });
  forget(which);
}

async function untilDaemonEnds(
  info: DevInfo,
  state: string,
  action: () => Promise<void>,
): Promise<void> {
  const pid = info.ublksrv_pid;
  const ours = isOurServer(info); // the state file goes with the device, threads with its queues
  const daemon = openProcess(pid);
  await action();
  if (daemon < 0) return;
  const ended = await endsWithin(daemon, ours ? DAEMON_END_MS : STRANGER_END_MS);
  libc.close(daemon);
  if (ended || !ours) return;
  const hint = `the device is ${state}; look at the process: ps -fp ${pid}`;
  throw new SysError({ op: "wait for daemon", errno: ETIMEDOUT, hint });
}

/** In slices: other devices may be ended by this very thread meanwhile. */
async function endsWithin(daemon: number, ms: number): Promise<boolean> {
  const deadline = performance.now() + ms;
  while (!libc.pollIn(daemon, SLICE_MS)) {
    if (performance.now() >= deadline) return false;
    await Bun.sleep(1);
  }
  return true;
}

/** The process has a thread that our state file knows as one of the device's. */
function isOurServer({ dev_id, ublksrv_pid: pid }: DevInfo): boolean {
  const tids = readState(dev_id)?.tids.flat() ?? [];
  return tids.some((tid) => hasThread(pid, tid));
}

/**
 * Returns when the device is gone, whether or not we were the ones who ended it. `first` is done
 * when it is our turn, and nobody begins the device any more; what it throws ends nothing.
 */
export async function endDevice(
  channel: Channel,
  which: Identity,
  first = async (): Promise<void> => {},
): Promise<void> {
  try {
    const { deleted } = await inTurn(which.id, async () => {
      // Who deletes it while we wait makes room for another device.
      if (!which.isReplaced) await first();
      if (!which.isReplaced) await stopDevice(channel, which.id);
      if (which.isReplaced) return { deleted: undefined };
      return hide(which, deleteDevice(channel, which.id));
    });
    if (deleted !== undefined) await untilGone(which, deleted);
  } catch (error) {
    if (!isGone(error)) throw error; // somebody else was told to end it at the same time
  }
  forget(which);
}

/** A server that is about to begin sees from here on that it must not. */
async function hide(which: Identity, deleted: Promise<void>): Promise<{ deleted: Promise<void> }> {
  deleted.catch(() => {}); // where nobody waits for it any more
  while (!which.isGone && !(await within(LOOK_MS, deleted)));
  return { deleted };
}

/** DEL_DEV waits until the id is free: for ever, where another device takes it at that moment. */
async function untilGone(which: Identity, deleted: Promise<void>): Promise<void> {
  while (!which.isVisible && !(await within(LOOK_MS, deleted)));
}

/** What is noted under the id is another device's if there is one: ours is hidden by now. */
function forget(which: Identity): void {
  if (!which.isVisible) removeState(which.id);
}

/** There is no such device, or not any more. */
export function isGone(error: unknown): boolean {
  return error instanceof SysError && error.errno === ENODEV;
}

/** It is somebody else's, and we are not root. */
export function isDenied(error: unknown): boolean {
  return error instanceof SysError && (error.errno === EPERM || error.errno === EACCES);
}
