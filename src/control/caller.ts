/** Who runs us and what we are, as far as anything is decided by it. */

import { existsSync, lstatSync, readFileSync, realpathSync } from "node:fs";
import { dirname } from "node:path";
import { SysError } from "../../ffi/errno.ts";

const ALL_IDS = /^\s*0\s+0\s+4294967295\s*$/;

/** Root, and not only of a user namespace such as a container's. */
export function isSystemRoot(map = "/proc/self/uid_map"): boolean {
  if (process.geteuid?.() !== 0) return false;
  // A kernel without user namespaces has no such file.
  return !existsSync(map) || ALL_IDS.test(readFileSync(map, "utf8"));
}

export const INSTALL = "install it first: install -m 755 ublk /usr/local/bin, and run that one";

/** Our own path, for configuration: one word there, and this program. */
export function plainProgram(path = realpathSync(process.execPath)): string {
  const facts = { op: "program", errno: 0, subject: path, hint: INSTALL };
  if (!/^[\w./+-]+$/.test(path)) {
    const reason = "has a character that udev and systemd take for their own";
    throw new SysError({ ...facts, reason });
  }
  if (!Bun.isStandaloneExecutable && path === realpathSync(process.execPath)) {
    throw new SysError({ ...facts, reason: "is the runtime and not the built executable" });
  }
  return path;
}

/** The same for what makes root run it: nobody but root may change it. */
export function trustedProgram(path = realpathSync(process.execPath)): string {
  plainProgram(path);
  const part = changeable(path);
  if (part === undefined) return path;
  const reason = `would run as root, and others than root can change ${part}`;
  throw new SysError({ op: "program", errno: 0, subject: path, reason, hint: INSTALL });
}

/** The file itself or a folder on the way to it that others than root can change. */
export function changeable(path: string): string | undefined {
  for (let part = path; ; part = dirname(part)) {
    const found = lstatSync(part);
    // In a folder such as /tmp only the owner of an entry can replace it.
    const sticky = part !== path && (found.mode & 0o1000) !== 0;
    if (found.uid !== 0 || ((found.mode & 0o022) !== 0 && !sticky)) return part;
    if (part === "/") return undefined;
  }
}
