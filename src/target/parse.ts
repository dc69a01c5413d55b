/** Numbers as people type them, and the error for what cannot be meant. */

import { isAbsolute, resolve } from "node:path";
import { trySys } from "../../ffi/errno.ts";

/** The user said something that cannot be meant: exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
}

const UNITS: Record<string, number> = {
  "": 1,
  B: 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
  P: 2 ** 50,
};
const SIZE = /^(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:iB|B)?$/i;
const SECTOR = 512;
const CPU_MAX = 4095;

/**
 * Bytes out of "512", "64k", "1.5G" or "250GiB" (units are powers of 1024). A bare number counts
 * `bareUnit` bytes.
 */
export function parseSize(option: string, text: string, bareUnit = 1): number {
  const match = SIZE.exec(text.trim());
  const bare = /^\d+$/.test(text.trim());
  const unit = UNITS[match?.[2]?.toUpperCase() ?? ""] ?? Number.NaN;
  const bytes = Number(match?.[1]) * (bare ? bareUnit : unit);
  if (match !== null && bytes > Number.MAX_SAFE_INTEGER) {
    throw new UsageError(`${option} '${text}': give less than 8P`);
  }
  if (match === null || !Number.isSafeInteger(bytes)) {
    throw new UsageError(`${option} '${text}': give a size such as 4096, 64K or 1G`);
  }
  return bytes;
}

/** As parseSize, where a bare number counts sectors of 512 bytes. */
export function parseSectors(option: string, text: string): number {
  return parseSize(option, text, SECTOR);
}

export function parseCount(option: string, text: string, min: number, max: number): number {
  const count = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(count >= min && count <= max)) {
    throw new UsageError(`${option} '${text}': give a whole number from ${min} to ${max}`);
  }
  return count;
}

/** "0-3,8" to 0, 1, 2, 3, 8; in brackets too, as ublksrv documents it. */
export function parseCpuSet(option: string, text: string): number[] {
  const cpus = new Set<number>();
  for (const range of text.replace(/^\[(.*)\]$/, "$1").split(",")) {
    const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(range.trim()) ?? [];
    if (first === undefined || Number(last) > CPU_MAX || Number(first) > Number(last)) {
      throw new UsageError(`${option} '${text}': give CPUs such as 0-3,8`);
    }
    for (let cpu = Number(first); cpu <= Number(last); cpu++) cpus.add(cpu);
  }
  return [...cpus].toSorted((a, b) => a - b);
}

/** 0, 1, 2, 3, 8 to "0-3,8": what parseCpuSet reads. `cpus` are in order. */
export function cpuSetText(cpus: readonly number[]): string {
  const firsts = cpus.filter((cpu, at) => cpus[at - 1] !== cpu - 1);
  const lasts = cpus.filter((cpu, at) => cpus[at + 1] !== cpu + 1);
  return firsts.map((cpu, at) => (cpu === lasts[at] ? cpu : `${cpu}-${lasts[at]}`)).join(",");
}

/**
 * From the root on; what the server is told, which has another directory. Where there is a ".." it
 * stays: behind a symlink it is not what the text says. `option`: where the path was given.
 */
export function absolutePath(option: string, path: string): string {
  if (path === "") throw new UsageError(`${option} '': give a path`);
  const full = isAbsolute(path) ? path : `${currentDirectory(path)}/${path}`;
  return path.split("/").includes("..") ? full : resolve(full);
}

/** Asked of the kernel: node:path takes another directory for one that is deleted. */
function currentDirectory(path: string): string {
  const hint = `the directory that you are in is deleted: cd to one that exists, or give ${path} from / on`;
  return trySys("getcwd", path, () => process.cwd(), hint);
}

type Kind = "string" | "number" | "boolean" | "boolean or absent" | "path" | "path or none";
type Shape = Record<string, Kind>;

/** Whether `value` is an object with these fields, numbers being counts and paths absolute. */
export function hasShape(value: unknown, shape: Shape): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(shape).every(([name, kind]) => {
    const field = (value as Record<string, unknown>)[name];
    if (kind === "number") return Number.isSafeInteger(field) && (field as number) >= 0;
    if (kind === "path") return typeof field === "string" && field.startsWith("/");
    if (kind === "boolean or absent") return field === undefined || typeof field === "boolean";
    if (kind === "path or none") return field === "" || hasShape(value, { [name]: "path" });
    return typeof field === kind;
  });
}
