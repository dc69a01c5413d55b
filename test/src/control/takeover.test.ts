/** src/control/takeover.ts: who is about to serve a device is known, and nobody who is gone. */

import { expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { processIdentity } from "../../../src/control/process.ts";
import { removeState } from "../../../src/control/state.ts";
import { beginTakeover, endTakeover, takeoverBy } from "../../../src/control/takeover.ts";
import { tempFolder } from "../../temp.ts";

const dir = tempFolder()("state");

test("whoever is about to serve a device is known while it lives and has not begun", () => {
  expect(takeoverBy(7, dir)).toBeUndefined();
  beginTakeover(7, dir);
  expect(takeoverBy(7, dir)).toBe(process.pid);
  endTakeover(7, dir);
  expect(takeoverBy(7, dir)).toBeUndefined();
  for (const text of ["4194305", "x", "", "-1"]) {
    writeFileSync(join(dir, "7.takeover"), text);
    expect(takeoverBy(7, dir)).toBeUndefined();
  }
  removeState(7, dir);
  expect(readdirSync(dir)).toEqual([]);
});

test("a number that is another process's by now is nobody's", () => {
  const { pid } = process;
  const start = Number(processIdentity(pid)!.split(" ")[1]);
  for (const text of [`${pid} ${start - 1}\n`, `${pid}\n`]) {
    writeFileSync(join(dir, "7.takeover"), text);
    expect(takeoverBy(7, dir)).toBeUndefined();
  }
  writeFileSync(join(dir, "7.takeover"), `${pid} ${start}\n`);
  expect(takeoverBy(7, dir)).toBe(pid);
});

test("who gives up, or serves, takes back no word but its own", () => {
  const other = `${processIdentity(process.ppid)}\n`;
  writeFileSync(join(dir, "7.takeover"), other);
  endTakeover(7, dir);
  expect(takeoverBy(7, dir)).toBe(process.ppid);
});
