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
  fstatSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import {
  checkDirectory,
  directoryIfAny,
  ensureDirectory,
  stateDirectory,
} from "./state_directory.ts";

const SCHEMA = 1;

export interface DeviceState {
  schema: typeof SCHEMA;
  dev_id: number;
  /** Target name and its configuration: enough to open the same disk again. */
  target: { name: string; config: unknown };
  /** What the target says of its disk, for `list`. */
  report: Record<string, string | number | boolean>;
  /** The threads that serve the queues, by queue id. */
  tids: number[];
  /** CPU sets that were asked for, by queue id; the driver's where there is none. */
  affinity: (number[] | null)[];
}

/** Where the device's server listens. */
export const socketPath = (id: number, dir = stateDirectory()): string => `${dir}/${id}.sock`;

type Kind = "json" | "stat";

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
  rmSync(aside, { force: true });
  writeFileSync(aside, content, { mode: 0o600, flag: "wx" });
  renameSync(aside, pathOf(dir, id, kind));
  return pathOf(dir, id, kind);
}

export function removeState(id: number, dir = directoryIfAny()): void {
  if (dir === undefined) return;
  rmSync(pathOf(dir, id, "json"), { force: true });
  rmSync(pathOf(dir, id, "stat"), { force: true });
  rmSync(socketPath(id, dir), { force: true });
}

/** A descriptor of a file that only we could have written; undefined when there is none. */
export function openFile(id: number, kind: Kind, dir = directoryIfAny()): number | undefined {
  if (dir === undefined) return undefined;
  let fd: number;
  try {
    checkDirectory(dir);
    fd = openSync(pathOf(dir, id, kind), constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch {
    return undefined;
  }
  if (fstatSync(fd).isFile() && fstatSync(fd).uid === process.geteuid?.()) return fd;
  closeSync(fd);
  return undefined;
}

/** Undefined when there is no file for the device, or none that we may believe. */
export function readState(id: number, dir = directoryIfAny()): DeviceState | undefined {
  const fd = openFile(id, "json", dir);
  if (fd === undefined) return undefined;
  try {
    const state: unknown = JSON.parse(readFileSync(fd, "utf8"));
    return isState(state) && state.dev_id === id ? state : undefined;
  } catch {
    return undefined; // torn or foreign: as good as none
  } finally {
    closeSync(fd);
  }
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

function isState(value: unknown): value is DeviceState {
  if (typeof value !== "object" || value === null) return false;
  const state = value as Partial<DeviceState>;
  return (
    state.schema === SCHEMA &&
    typeof state.dev_id === "number" &&
    typeof state.target?.name === "string" &&
    typeof state.report === "object" &&
    state.report !== null &&
    Array.isArray(state.tids) &&
    Array.isArray(state.affinity)
  );
}
