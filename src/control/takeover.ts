/** Who is about to serve a device: a file that whoever watches the device looks at. */

import { closeSync, readFileSync } from "node:fs";
import { isServing } from "./process.ts";
import { dropFile, openFile, putFile } from "./state.ts";

/** In the process that is going to serve: from now on nobody else need take the device over. */
export function beginTakeover(id: number, dir?: string): void {
  putFile(id, "takeover", `${process.pid}\n`, dir);
}

export function endTakeover(id: number, dir?: string): void {
  dropFile(id, "takeover", dir);
}

/** The process, if it lives. */
export function takeoverBy(id: number, dir?: string): number | undefined {
  const fd = openFile(id, "takeover", dir);
  if (fd === undefined) return undefined;
  const pid = Number(readFileSync(fd, "utf8"));
  closeSync(fd);
  return isServing(pid) ? pid : undefined;
}
