/** src/control/caller.ts: whom and what we trust. */

import { expect, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import {
  changeable,
  isSystemRoot,
  plainProgram,
  trustedProgram,
} from "../../../src/control/caller.ts";
import { tempFolder } from "../../temp.ts";

const path = tempFolder();
const isRoot = process.getuid?.() === 0;

function program(folder: string, folderMode: number, mode: number): string {
  mkdirSync(path(folder));
  writeFileSync(path(`${folder}/ublk`), "");
  chmodSync(path(`${folder}/ublk`), mode);
  chmodSync(path(folder), folderMode);
  return path(`${folder}/ublk`);
}

test.skipIf(!isRoot)("a program of root's in folders of root's is trusted (needs root)", () => {
  const good = program("good", 0o755, 0o755);
  expect(trustedProgram(good)).toBe(good);
  expect(changeable(good)).toBeUndefined();
});

test.each([
  ["can be written to by others", 0o755, 0o757],
  ["can be written to by a group", 0o755, 0o775],
  ["is in a folder that others can write to", 0o777, 0o755],
])("a program that %s is not", (what, folderMode, mode) => {
  const bad = program(what.replaceAll(" ", "_"), folderMode, mode);
  expect(() => trustedProgram(bad)).toThrow("others than root can change");
  expect(changeable(bad)).toBeString();
});

test.each(["/usr/bin/u blk", '/usr/"', "/opt/$devnode", "/opt/%k", "/opt/a'b"])(
  "a path that udev would not take as it is: %j",
  (name) => {
    const why = "a character that udev and systemd take for their own";
    expect(() => trustedProgram(name)).toThrow(`program ${name}: has ${why}`);
    expect(() => plainProgram(name)).toThrow(`program ${name}: has ${why}`);
  },
);

test("neither is the runtime, which is not the program", () => {
  expect(() => trustedProgram()).toThrow("is the runtime");
  expect(() => plainProgram()).toThrow("is the runtime");
});

test.skipIf(!isRoot)("root is root where there are no user namespaces (needs root)", () => {
  expect(isSystemRoot(path("no-such-map"))).toBe(true);
  writeFileSync(path("map"), "         0       1000          1\n");
  expect(isSystemRoot(path("map"))).toBe(false);
});
