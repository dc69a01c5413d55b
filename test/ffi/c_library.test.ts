/** ffi/c_library.ts: where libraries are looked for. */

import { expect, test } from "bun:test";
import { copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import "../../ffi/liburing.ts";
import { tempFolder } from "../temp.ts";

const path = tempFolder();

test("a library is never taken from the current directory", () => {
  const trap = "libublk-trap.so.7";
  const liburing = /\S+\/liburing\.so\S*/.exec(readFileSync("/proc/self/maps", "utf8"))?.[0];
  copyFileSync(liburing!, path(trap));
  const module = join(import.meta.dir, "../../ffi/c_library.ts");
  // Bun's own dlopen takes it: the test would fail if that were what we call.
  const script = `
    import { dlopen } from "bun:ffi";
    import { loadLibrary } from ${JSON.stringify(module)};
    const ours = loadLibrary("${trap}");
    dlopen("${trap}", { io_uring_enter: { args: [], returns: "i32" } });
    console.log(ours, loadLibrary("libm.so.6"));`;
  const child = Bun.spawnSync([process.execPath, "-e", script], { cwd: path("") });
  expect(child.stdout.toString().trim()).toBe("false true");
});
