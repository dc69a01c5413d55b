/** A folder for a test's files, gone when its tests are over. */

import { afterAll } from "bun:test";
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Call it at the top of a test file; answers paths inside the folder. */
export function tempFolder(parent = tmpdir()): (name: string) => string {
  const folder = mkdtempSync(join(parent, "ublk-test-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return (name) => join(folder, name);
}

/** In memory, where there is such a place: thousands of images, and an fdatasync costs nothing. */
export const MEMORY = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

/** A sparse file of `size` bytes. */
export function fileOf(path: string, size: number): string {
  writeFileSync(path, "");
  truncateSync(path, size);
  return path;
}

/** What `action` throws; it has to throw. */
export function thrown(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}
