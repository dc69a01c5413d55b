/** Whether a device can be taken over by another server: throws the reason why not. */

import { SysError } from "../../ffi/errno.ts";
import type { DevInfo } from "../../ffi/ublk_cmd.ts";
import { stateName } from "./device.ts";
import { recoveryOf } from "./features.ts";
import { isServed } from "./served.ts";

export const refused = (info: DevInfo, how: string, reason: string, hint: string): SysError =>
  new SysError({ op: how, errno: 0, subject: `device ${info.dev_id}`, reason, hint });

export function refuseHopeless(info: DevInfo, how: string): void {
  const del = `ublk del -n ${info.dev_id} removes it`;
  if (recoveryOf(info.flags) === "none") {
    const reason = "was made without recovery: it ends with its server";
    throw refused(info, how, reason, "ublk add -r, -i or -e makes a device that outlives it");
  }
  if (stateName(info) === "DEAD") {
    throw refused(info, how, "is DEAD: it was stopped, or has never been live", del);
  }
}

export function refuseServed(info: DevInfo, how: string): void {
  if (!isServed(info)) return;
  const reason = `is served already, by process ${info.ublksrv_pid}`;
  throw refused(info, how, reason, `ublk upgrade -n ${info.dev_id} replaces that`);
}
