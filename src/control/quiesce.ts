/** Ends the server of a device without ending the device, so that another can take over. */

import { EBUSY, EINTR, EOPNOTSUPP, ESRCH, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import type { DevInfo } from "../../ffi/ublk_cmd.ts";
import type { Channel } from "./command.ts";
import { getDevInfo, quiesceDevice } from "./device.ts";
import { has, recoveryOf } from "./features.ts";
import { openServer } from "./served.ts";

type Way = "quiesce" | "kill";

/**
 * QUIESCE_DEV where it keeps its promise; otherwise, where in-flight IO is issued again, the
 * death of the server, which nobody above notices either.
 *
 * On a batch device QUIESCE_DEV makes new IO fail instead of wait (ublk_batch_cancel_queue in
 * ublk_drv.c of 7.2 sets force_abort).
 */
function wayOf({ flags }: DevInfo): Way | undefined {
  if (has(flags, "UBLK_F_QUIESCE") && !has(flags, "UBLK_F_BATCH_IO")) return "quiesce";
  return recoveryOf(flags) === "reissue" ? "kill" : undefined;
}

/** Throws why the device cannot be handed over. */
export function refuseUpgrade(info: DevInfo): void {
  if (wayOf(info) !== undefined) return;
  const batch = has(info.flags, "UBLK_F_BATCH_IO");
  throw new SysError({
    op: "upgrade",
    errno: EOPNOTSUPP,
    subject: `device ${info.dev_id}`,
    reason: batch
      ? "QUIESCE_DEV makes the IO of batch devices fail"
      : "was made without UBLK_F_QUIESCE (Linux 6.16)",
    hint: "a device made with -i can be upgraded all the same",
  });
}

/** For one QUIESCE_DEV, in milliseconds; it holds the device's mutex. */
const QUIESCE_MS = 2000;
/** A server all of whose tags were busy has not heard of it: it is told again. */
const HEAR_MS = 200;
/** Until it is killed; longer where that would fail the requests that it has. */
const PATIENCE_MS = 20_000;
const PATIENCE_FAILING_MS = 60_000;

/**
 * Returns when the server is gone. Once QUIESCE_DEV was sent the device takes no IO, whatever the
 * answer was, so there is no way back: a server that does not leave is ended.
 */
export async function sendHome(
  channel: Channel,
  id: number,
  say: (line: string) => void,
  patience?: number,
): Promise<void> {
  const info = await getDevInfo(channel, id);
  const server = openServer(info);
  if (server < 0) return;
  try {
    refuseUpgrade(info);
    const usual = recoveryOf(info.flags) === "reissue" ? PATIENCE_MS : PATIENCE_FAILING_MS;
    if (wayOf(info) === "quiesce") {
      if (await quiesce(channel, id, server, patience ?? usual)) return;
      say(`process ${info.ublksrv_pid} does not leave: it is killed`);
    }
    kill(server);
  } finally {
    libc.close(server);
  }
}

function kill(server: number): void {
  try {
    libc.pidfdKill(server);
  } catch (error) {
    if (!(error instanceof SysError) || error.errno !== ESRCH) throw error;
  }
}

async function quiesce(
  channel: Channel,
  id: number,
  server: number,
  patience: number,
): Promise<boolean> {
  const deadline = performance.now() + patience;
  while (performance.now() < deadline) {
    try {
      await quiesceDevice(channel, id, QUIESCE_MS);
    } catch (error) {
      const again = error instanceof SysError && [EBUSY, EINTR].includes(error.errno);
      if (!again) throw error;
    }
    if (libc.pollIn(server, HEAR_MS)) return true;
  }
  return false;
}
