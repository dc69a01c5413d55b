/** Opens what a device is kept in, and says who has it when somebody else has. */

import { EAGAIN, EBUSY, SysError } from "../../ffi/errno.ts";
import type { OpenDisk } from "../target/target.ts";
import type { Host } from "./server.ts";
import { readAllStates } from "./state.ts";

/** `served`: the device that it was the disk of, whose dead server may still hold the lock. */
export function openDisk(
  plan: { config: unknown },
  { target, secret }: Pick<Host, "target" | "secret">,
  served?: { id: number; size: number },
): OpenDisk {
  try {
    return target.open(plan.config, secret, served?.size);
  } catch (error) {
    if (!isLocked(error)) throw error;
    const holder = readAllStates().find((state) => state.report["backing_file"] === error.subject);
    if (holder === undefined || holder.dev_id === served?.id) throw error;
    const reason = `is served already, as device ${holder.dev_id}`;
    const hint = `ublk del -n ${holder.dev_id} ends that`;
    throw new SysError({ ...error.facts(), errno: 0, reason, hint });
  }
}

/** By its lock, or, as a block device, by being open exclusively. */
export function isTaken(error: unknown): error is SysError {
  return (
    isLocked(error) || (error instanceof SysError && error.op === "open" && error.errno === EBUSY)
  );
}

function isLocked(error: unknown): error is SysError {
  return error instanceof SysError && error.op === "lock" && error.errno === EAGAIN;
}
