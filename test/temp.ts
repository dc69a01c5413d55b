/** A folder for a test's files, gone when its tests are over. */

import { afterAll } from "bun:test";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Call it at the top of a test file; answers paths inside the folder. */
export function tempFolder(): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), "ublk-test-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return (name) => join(folder, name);
}

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
