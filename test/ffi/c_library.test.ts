/** ffi/c_library.ts: where libraries are looked for. */

import { expect, test } from "bun:test";
import { copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import "../../ffi/liburing.ts";
import { tempFolder } from "../temp.ts";

const path = tempFolder();

const MODULE = JSON.stringify(join(import.meta.dir, "../../ffi/c_library.ts"));

const PATIENCE_MS = 30_000;

function run(script: string, env: Record<string, string> = {}): string {
  const command = [process.execPath, "-e", script];
  const options = { cwd: path(""), env: { ...process.env, ...env }, timeout: PATIENCE_MS };
  const child = Bun.spawnSync(command, options);
  return child.stdout.toString().trim();
}

test("a library is never taken from the current directory", () => {
  const trap = "libublk-trap.so.7";
  const liburing = /\S+\/liburing\.so\S*/.exec(readFileSync("/proc/self/maps", "utf8"))?.[0];
  copyFileSync(liburing!, path(trap));
  // Bun's own dlopen takes it: the test would fail if that were what we call.
  const script = `
    import { dlopen } from "bun:ffi";
    import { loadLibrary } from ${MODULE};
    const ours = loadLibrary("${trap}");
    dlopen("${trap}", { io_uring_enter: { args: [], returns: "i32" } });
    console.log(ours, loadLibrary("libm.so.6"));`;
  expect(run(script)).toBe("false true");
});

/** As for a shell with `ulimit -v`, or a service with MemoryDenyWriteExecute=. */
const NO_JIT = { BUN_JSC_useJIT: "0" };

test("nor when no library can be called: the one error says so, and what to do", () => {
  // Whoever opened one of these pipes would wait for its other end.
  const names = ["libc.so", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libdl.so"];
  Bun.spawnSync(["mkfifo", ...names.map(path)]);
  const script = `
    const error = await import(${MODULE}).catch((error) => error);
    console.log(JSON.stringify([error.name, error.message, error.hint]));`;
  const [name, message, hint] = JSON.parse(run(script, NO_JIT));
  expect([name, message]).toEqual(["SysError", "load libc.so.6: bun:ffi requires the JIT"]);
  expect(hint).toContain("ulimit -v");
});
