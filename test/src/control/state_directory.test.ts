/** src/control/state_directory.ts: who keeps state where. */

import { describe, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { stateDirectory } from "../../../src/control/state_directory.ts";
import { tempFolder } from "../../temp.ts";

const path = tempFolder();
const isRoot = process.getuid?.() === 0;

describe("the folder of an ordinary user", () => {
  // A process of its own: who it is and what is in its environment cannot be changed here.
  const module = join(import.meta.dir, "../../../src/control/state_directory.ts");
  const script = `
    const { stateDirectory } = await import(${JSON.stringify(module)});
    if (process.getuid() === 0) process.setuid(65534);
    try { console.log(stateDirectory()); } catch (error) { console.log(error.message); }`;
  const answer = (runtime?: string): string => {
    const env = { ...process.env, XDG_RUNTIME_DIR: runtime };
    return Bun.spawnSync([process.execPath, "-e", script], { env }).stdout.toString().trim();
  };

  test("is that of $XDG_RUNTIME_DIR, when nobody else can write there", () => {
    const runtime = path("runtime");
    mkdirSync(runtime, { mode: 0o700 });
    if (isRoot) chownSync(runtime, 65534, 65534);
    chmodSync(dirname(runtime), 0o755);
    expect(answer(runtime)).toBe(`${runtime}/ublk`);
    chmodSync(runtime, 0o777);
    expect(answer(runtime)).toContain("is not a directory that only its owner, you, can write to");
  });

  test("is missed when nothing says where it is", () => {
    expect(answer()).toContain("XDG_RUNTIME_DIR: is not set");
    expect(answer("")).toContain("XDG_RUNTIME_DIR: is not set");
    expect(answer("/nowhere/at/all")).toContain("'/nowhere/at/all' is not there");
    expect(answer("relative")).toContain("'relative' is not there");
    expect(answer("/tmp")).toContain("state directory /tmp: is not");
  });

  test.skipIf(!isRoot)("is of no interest to root (needs root)", () => {
    const before = process.env["XDG_RUNTIME_DIR"];
    process.env["XDG_RUNTIME_DIR"] = path("elsewhere");
    expect(stateDirectory()).toBe("/run/ublk");
    if (before === undefined) delete process.env["XDG_RUNTIME_DIR"];
    else process.env["XDG_RUNTIME_DIR"] = before;
  });
});
