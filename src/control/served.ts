/** Whether anybody serves a device, and which process that is. */

import { readdirSync, statSync } from "node:fs";
import * as libc from "../../ffi/libc.ts";
import type { DevInfo } from "../../ffi/ublk_cmd.ts";
import { charDevice, stateName } from "./device.ts";
import { isServing, openProcess } from "./process.ts";

/** The driver goes on naming the process of a server that has gone: for ever while QUIESCED. */
export function isServed(info: DevInfo): boolean {
  return stateName(info) === "LIVE" && isServing(info.ublksrv_pid);
}

/**
 * A descriptor of the process that serves the device, -1 when there is none: for those who act upon
 * the process itself. Until the driver has seen a death, the number may be a stranger's; he has not
 * the char device open, `node`.
 */
export function openServer(info: DevInfo, node = charDevice(info.dev_id)): number {
  if (!isServed(info)) return -1;
  const server = openProcess(info.ublksrv_pid);
  if (server < 0 || hasOpen(info.ublksrv_pid, node)) return server;
  libc.close(server);
  return -1;
}

/** By its number: in the mounts of a server a node has another name, or none. */
function hasOpen(pid: number, node: string): boolean {
  const device = statSync(node, { throwIfNoEntry: false });
  // Where we cannot look, the driver's word has to do; in a container it may be a plain file.
  if (device?.isCharacterDevice() !== true) return true;
  const dir = `/proc/${pid}/fd`;
  try {
    return readdirSync(dir).some((fd) => isDevice(`${dir}/${fd}`, device.rdev));
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES";
  }
}

function isDevice(link: string, device: number): boolean {
  try {
    const file = statSync(link);
    return file.isCharacterDevice() && file.rdev === device;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EACCES") throw error;
    return false; // closed meanwhile, or on a file system that is gone
  }
}
