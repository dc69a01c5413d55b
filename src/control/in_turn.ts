/** Who begins a device and who ends it take turns: a lock on what sysfs shows of the device. */

import { SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import { CLASS } from "./nodes.ts";

const PAUSE_MS = 10;
/** START_DEV takes as long as the threads need to fetch, and in Linux 6.12 to read partitions. */
const TURN_MS = 10_000;

/**
 * START_DEV does not mind that STOP_DEV or DEL_DEV has just aborted every FETCH: the first request
 * then meets a tag without a command, which is a NULL pointer to Linux 7.2 and a hang to 6.12 (both
 * seen). So neither runs while the other does. The lock goes with the device, whoever made it, and
 * is waited for with a bound: neither a server that cannot start nor a stranger, who may take it as
 * well, must keep a device from ending. After that there is only what each looks at beforehand.
 */
export async function inTurn<T>(
  id: number,
  action: () => Promise<T>,
  { sysfs = CLASS, ms = TURN_MS } = {},
): Promise<T> {
  const fd = folderOf(id, sysfs);
  if (fd < 0) return action();
  try {
    for (let waited = 0; !libc.tryLock(fd) && waited < ms; waited += PAUSE_MS) {
      await Bun.sleep(PAUSE_MS);
    }
    return await action();
  } finally {
    libc.close(fd);
  }
}

/** -1: the device has gone, or there is no sysfs that we may see. */
function folderOf(id: number, sysfs: string): number {
  try {
    return libc.open(`${sysfs}/ublkc${id}`, libc.O_RDONLY);
  } catch (error) {
    if (error instanceof SysError) return -1;
    throw error;
  }
}
