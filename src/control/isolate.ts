/**
 * Keeps the daemon out of the way of those who use its device.
 *
 * A process that dies takes its mount namespace along; were a file system on our own device
 * mounted there, its last writes would wait for us, who are dying. So the daemon lives in a
 * namespace of its own in which nothing is mounted that it does not need.
 */

import { readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { EPERM, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import * as mounts from "../../ffi/mounts.ts";
import type { Log } from "./log.ts";
import { directoryIfAny } from "./state_directory.ts";

/** Device nodes, and what the runtime itself reads; beside them, where its libraries are. */
const NEEDED = new Set(["/", "/dev", "/proc", "/run", "/sys"]);

/** For the process that is about to start, or to become, the daemon. */
export function enterOwnMountNamespace(): boolean {
  // After a mere chroot(2) the mounts outside of it could be neither seen nor left.
  if (!mountPoints().includes("/")) return false;
  try {
    mounts.unshareMounts();
    return true;
  } catch (error) {
    if (error instanceof SysError) return false; // without the privilege there is no device either
    throw error;
  }
}

/**
 * Starts something, and comes back to the mounts that were there before: at once, so that no thread
 * of ours begins its life elsewhere.
 */
export function withMountsKept<T>(start: () => T): T {
  const home = libc.open("/proc/self/ns/mnt", libc.O_RDONLY);
  const root = libc.open("/", libc.O_RDONLY);
  const directory = process.cwd();
  try {
    return start();
  } finally {
    comeHome(home, root, directory);
    libc.close(home);
    libc.close(root);
  }
}

/** setns(2) leaves us in the namespace's own root, which need not be ours. */
function comeHome(home: number, root: number, directory: string): void {
  try {
    mounts.enterMounts(home);
    mounts.chroot(`/proc/self/fd/${root}`);
    process.chdir(directory);
  } catch (error) {
    // Who may not come back could not leave either.
    if (!(error instanceof SysError) || error.errno !== EPERM) throw error;
  }
}

/** For the daemon, once its files are open: out of every mount, and spared by the OOM killer. */
export function isolate(log: Log): void {
  if (process.env[OWN_NAMESPACE] === "1") {
    mounts.makeMountsPrivate();
    const state = `${directoryIfAny()}/`; // in a container it may be the host's, mounted
    for (const path of notNeeded(mountPoints(), [state, ...mappedLibraries()])) detach(path);
  } else {
    log.once("warn", "shares its mounts with others: unmount what is on the device before it ends");
  }
  log.bestEffort("may be killed when memory is short", () => {
    writeFileSync("/proc/self/oom_score_adj", "-1000");
  });
}

/** Of mount points in their order, those to leave, the last one first: none of `files` is there. */
export function notNeeded(points: readonly string[], files: readonly string[]): string[] {
  const isNeeded = (path: string): boolean =>
    NEEDED.has(path) || files.some((file) => file === path || file.startsWith(`${path}/`));
  return points.filter((path) => !isNeeded(path)).toReversed();
}

/**
 * What the helper that ends our device needs to be started, the interpreter and the libraries: for
 * where /usr is a mount of its own. The executable is not among them: we have it without a name.
 */
export function mappedLibraries(): string[] {
  const self = readlinkSync("/proc/self/exe");
  const maps = readFileSync("/proc/self/maps", "utf8").matchAll(/ (\/.*)$/gm);
  return [...new Set([...maps].map(([, path]) => path!))].filter((path) => path !== self);
}

/** Set by whoever started us, so that we never detach mounts of a namespace that is not ours. */
export const OWN_NAMESPACE = "UBLK_OWN_MOUNTS";

function mountPoints(): string[] {
  const lines = readFileSync("/proc/self/mountinfo", "utf8").trim().split("\n");
  return lines.map((line) => (line.split(" ")[4] ?? "/").replace(/\\(\d{3})/g, unescapeOctal));
}

function unescapeOctal(_: string, digits: string): string {
  return String.fromCharCode(Number.parseInt(digits, 8));
}

function detach(path: string): void {
  try {
    mounts.detachMount(path);
  } catch {
    // its parent took it along
  }
}
