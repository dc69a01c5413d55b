/** Whether anybody serves a device, and which process that is. */

import type { DevInfo } from "../../ffi/ublk_cmd.ts";
import { stateName } from "./device.ts";
import { isServing } from "./process.ts";

/** The driver goes on naming the process of a server that has gone: for ever while QUIESCED. */
export function isServed(info: DevInfo): boolean {
  return stateName(info) === "LIVE" && isServing(info.ublksrv_pid);
}
