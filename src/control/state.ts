/**
 * /run/ublk/ID.json, for ordinary users $XDG_RUNTIME_DIR/ublk/ID.json: what neither the kernel nor
 * the image knows of a device. Beside it is ID.stat, what its threads count (stats.ts).
 *
 * The kernel is right where the two disagree. A file is written aside and renamed, so that a
 * reader sees a whole one or none.
 */

import {
  constants,
  closeSync,
  existsSync,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
} from "node:fs";
import { SysError, trySys } from "../../ffi/errno.ts";
import type { AskedLimits } from "./limits.ts";
import type { LogLevel } from "./log.ts";
import { replaceFile } from "./output.ts";
import {
  checkDirectory,
  directoryIfAny,
  ensureDirectory,
  stateDirectory,
} from "./state_directory.ts";
import { whyNoState } from "./state_shape.ts";

const SCHEMA = 1;
/** Ten times what the most queues would make. */
const SIZE_MAX = 1 << 20;

export interface DeviceState {
  schema: typeof SCHEMA;
  dev_id: number;
  /** Target name and its configuration: enough to open the same disk again. */
  target: { name: string; config: unknown };
  /** How the threads go about it; all else the driver knows. */
  serving: {
    zeroCopyMin: number;
    pollUs: number;
    threads: number;
    limits: AskedLimits;
    logLevel: LogLevel;
  };
  /** What the target says of its disk, for `list`. */
  report: Record<string, string | number | boolean>;
  /** By queue id: the threads that serve the queue. */
  tids: number[][];
  /** What it is kept in, as same_files.ts names files; older versions did not note it. */
  files?: string[];
  /** CPU sets that were asked for, by queue id; the driver's where there is none. */
  affinity: (number[] | null)[];
}

/** Where the device's server listens. */
export const socketPath = (id: number, dir = stateDirectory()): string => `${dir}/${id}.sock`;

type Kind = "json" | "stat" | "takeover";

const pathOf = (dir: string, id: number, kind: Kind): string => `${dir}/${id}.${kind}`;

export function writeState(state: Omit<DeviceState, "schema">, dir = stateDirectory()): void {
  const text = JSON.stringify({ schema: SCHEMA, ...state }, null, 2);
  putFile(state.dev_id, "json", `${text}\n`, dir);
}

/** A new file of a device, whole from the moment it is there. */
export function putFile(
  id: number,
  kind: Kind,
  content: string | Uint8Array,
  dir = stateDirectory(),
): string {
  ensureDirectory(dir);
  const aside = `${dir}/.${id}.${process.pid}`;
  const path = pathOf(dir, id, kind);
  const hint = "the state of devices is kept there";
  replaceFile(path, content, { aside, mode: 0o600, hint });
  return path;
}

export function removeState(id: number, dir = directoryIfAny()): void {
  if (dir === undefined) return;
  for (const kind of ["json", "stat", "takeover"] as const) removeIfThere(pathOf(dir, id, kind));
  removeIfThere(socketPath(id, dir));
}

export function dropFile(id: number, kind: Kind, dir = directoryIfAny()): void {
  if (dir !== undefined) removeIfThere(pathOf(dir, id, kind));
}

/** On a file system that is read-only, to remove nothing is an error, too. */
function removeIfThere(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
  trySys("remove", path, () => rmSync(path, { force: true }));
}

/** A descriptor of a file that only we could have written; undefined when there is none. */
export function openFile(id: number, kind: Kind, dir = directoryIfAny()): number | undefined {
  if (dir === undefined) return undefined;
  try {
    return openTrusted(pathOf(dir, id, kind), dir);
  } catch {
    return undefined;
  }
}

/** Undefined when there is no file for the device, or none that we may believe. */
export function readState(id: number, dir = directoryIfAny()): DeviceState | undefined {
  if (dir === undefined) return undefined;
  try {
    return loadState(id, dir);
  } catch {
    return undefined; // torn or foreign: as good as none
  }
}

/** The state of the device; throws why there is none that we may believe. Follows no link. */
export function loadState(id: number, dir = stateDirectory()): DeviceState {
  const path = pathOf(dir, id, "json");
  const fd = openTrusted(path, dir);
  try {
    const size = fstatSync(fd).size;
    if (size > SIZE_MAX) throw unbelievable(path, `has ${size} bytes`);
    const state = parse(readFileSync(fd, "utf8"));
    const wrong = whyNoState(state, id, SCHEMA);
    if (wrong !== undefined) throw unbelievable(path, wrong);
    return state as DeviceState;
  } finally {
    closeSync(fd);
  }
}

/** Throws why the file is not one that only we could have written. */
function openTrusted(path: string, dir: string): number {
  if (!existsSync(dir)) throw unbelievable(path, "is not there");
  checkDirectory(dir);
  let fd: number;
  try {
    // O_NONBLOCK: a FIFO would keep us waiting.
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    const known: Record<string, string> = { ENOENT: "is not there", ELOOP: "is a symbolic link" };
    throw unbelievable(path, known[code] ?? `cannot be opened: ${code}`);
  }
  const whyNot = whyForeign(fd);
  if (whyNot === undefined) return fd;
  closeSync(fd);
  throw unbelievable(path, whyNot);
}

function whyForeign(fd: number): string | undefined {
  const stats = fstatSync(fd);
  if (!stats.isFile()) return "is no regular file";
  if (stats.uid !== process.geteuid?.()) return `belongs to user ${stats.uid}`;
  return (stats.mode & 0o022) === 0 ? undefined : "can be written to by others";
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function unbelievable(path: string, reason: string): SysError {
  const hint = "without it nobody knows what the device is kept in: ublk del gives it up";
  return new SysError({ op: "state file", errno: 0, subject: path, reason, hint });
}

/** All devices that have a file, whether or not the kernel still knows them. */
export function readAllStates(dir = directoryIfAny()): DeviceState[] {
  if (dir === undefined) return [];
  let names: string[];
  try {
    names = readdirSync(dir);
  } catch {
    return [];
  }
  const ids = names.map((name) => /^(\d+)\.json$/.exec(name)?.[1]).filter((id) => id !== undefined);
  return ids.map((id) => readState(Number(id), dir)).filter((state) => state !== undefined);
}
