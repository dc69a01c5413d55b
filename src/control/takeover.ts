/** Who is about to serve a device: a file that whoever watches the device looks at. */

import { closeSync, readFileSync } from "node:fs";
import { isServing, processIdentity } from "./process.ts";
import { dropFile, openFile, putFile } from "./state.ts";

/** In the process that is going to serve: from now on nobody else need take the device over. */
export function beginTakeover(id: number, dir?: string): void {
  putFile(id, "takeover", `${processIdentity(process.pid)}\n`, dir);
}

/** In the same process, when it serves or will not. The file may be another one's by now. */
export function endTakeover(id: number, dir?: string): void {
  if (takeoverBy(id, dir) === process.pid) dropFile(id, "takeover", dir);
}

/**
 * The process, if it lives. A file that was left behind names one that is gone, whose number may
 * be somebody else's: then it would be waited for until that one ends.
 */
export function takeoverBy(id: number, dir?: string): number | undefined {
  const fd = openFile(id, "takeover", dir);
  if (fd === undefined) return undefined;
  const noted = readFileSync(fd, "utf8").trim();
  closeSync(fd);
  const pid = Number(noted.split(" ")[0]);
  return isServing(pid) && processIdentity(pid) === noted ? pid : undefined;
}
