/** An image that a device without a server waits to take up again: nobody else may change it. */

import { SysError } from "../../ffi/errno.ts";
import type { Disk } from "../target/target.ts";
import type { Channel } from "./command.ts";
import { getDevInfo, stateName } from "./device.ts";
import { isDenied, isGone } from "./remove.ts";
import { filesOf, isSameFile } from "./same_files.ts";
import { isServed } from "./served.ts";
import { type DeviceState, readAllStates } from "./state.ts";

type Noted = Pick<DeviceState, "dev_id" | "report" | "files">;

/**
 * Throws when the disk of a new device is that of another one, or what that one stands on. The
 * image's lock went with the server of the other one, which may have died just now.
 */
export async function refuseKept(
  channel: Channel,
  disk: Disk,
  states: readonly Noted[] = readAllStates(),
): Promise<void> {
  const files = filesOf(disk.files);
  for (const state of states) {
    if (!clashes(disk, files, state) || !(await waits(channel, state.dev_id))) continue;
    const id = state.dev_id;
    throw new SysError({
      op: "open",
      errno: 0,
      subject: String(disk.report["backing_file"]),
      reason: `device ${id} is kept in it and waits for a server`,
      hint: `ublk recover -n ${id} serves it, ublk del -n ${id} gives it up`,
    });
  }
}

/** The first of the files is the image; it alone is written to. */
function clashes(
  disk: Disk,
  files: readonly string[],
  { files: before = [], report }: Noted,
): boolean {
  // An inode alone is not enough: other file systems have the same numbers.
  const isNameSame = disk.report["backing_file"] === report["backing_file"];
  const isAmong = (image: string | undefined, all: readonly string[]): boolean =>
    image !== undefined &&
    all.some((file) => file === image || (isNameSame && isSameFile(file, image)));
  return (
    (!disk.readOnly && isAmong(files[0], before)) ||
    (report["read_only"] !== true && isAmong(before[0], files))
  );
}

/** Also one that the driver has for LIVE, where it has not seen the death of its server yet. */
async function waits(channel: Channel, id: number): Promise<boolean> {
  try {
    const info = await getDevInfo(channel, id);
    return stateName(info) !== "DEAD" && !isServed(info);
  } catch (error) {
    // What was noted is of a device that has gone; the id may be somebody else's by now.
    if (isGone(error) || isDenied(error)) return false;
    throw error;
  }
}
