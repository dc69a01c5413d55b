/** Where state is kept, and that nobody else can write there. */

import { existsSync, lstatSync, mkdirSync } from "node:fs";
import { isAbsolute } from "node:path";
import { ENOENT, SysError, trySys } from "../../ffi/errno.ts";
import { isSystemRoot } from "./caller.ts";

const SYSTEM_DIR = "/run/ublk";

/** Root's is fixed, whatever the environment says; everybody else has one of his own. */
export function stateDirectory(): string {
  if (isSystemRoot()) return SYSTEM_DIR;
  const runtime = process.env["XDG_RUNTIME_DIR"] ?? "";
  const isRoot = process.geteuid?.() === 0;
  if (isRoot && !existsSync(runtime)) return SYSTEM_DIR; // a container's own
  if (isAbsolute(runtime) && existsSync(runtime)) {
    checkDirectory(runtime);
    return `${runtime}/ublk`;
  }
  const reason = runtime === "" ? "is not set" : `'${runtime}' is not there`;
  const hint =
    "run as root; or log in as that user, or set it to a directory that only you can write to";
  throw new SysError({ op: "XDG_RUNTIME_DIR", errno: ENOENT, reason, hint });
}

/** For those who look: where there is none, there is nothing to find. */
export function directoryIfAny(): string | undefined {
  try {
    return stateDirectory();
  } catch {
    return undefined;
  }
}

/** Before there is a device: throws when its state could not be kept. */
export function prepareStateDirectory(): void {
  ensureDirectory(stateDirectory());
}

export function ensureDirectory(dir: string): void {
  const make = (): void => {
    // What else has that name is complained of below.
    if (lstatSync(dir, { throwIfNoEntry: false }) !== undefined) return;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  };
  trySys("mkdir", dir, make, "the state of devices is kept there");
  checkDirectory(dir);
}

/** A directory that others may write to could hand us files of theirs. */
export function checkDirectory(dir: string): void {
  const found = lstatSync(dir);
  if (found.isDirectory() && found.uid === process.geteuid?.() && (found.mode & 0o022) === 0) {
    return;
  }
  throw new SysError({
    op: "state directory",
    errno: 0,
    subject: dir,
    reason: "is not a directory that only its owner, you, can write to",
    hint: `look at it (ls -ld ${dir}), remove it, and try again`,
  });
}
