/** src/control/within.ts: a bound that keeps nobody. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { within } from "../../../src/control/within.ts";

test("what comes in time is told from what does not, and a failure is one", async () => {
  expect(await within(60_000, Promise.resolve(false))).toBe(true);
  expect(await within(1, new Promise(() => {}))).toBe(false);
  expect(within(60_000, Promise.reject(new Error("no")))).rejects.toThrow("no");
});

test("a program need not wait for its bounds", () => {
  const file = join(import.meta.dir, "../../../src/control/within.ts");
  const code = `import { within } from "${file}"; await within(60_000, Promise.resolve());`;
  const child = Bun.spawnSync([process.execPath, "-e", code], { timeout: 30_000 });
  expect(child.exitCode).toBe(0);
});
