/** src/control/isolate.ts: a start among other mounts, and the way back. */

import { describe, expect, test } from "bun:test";
import { existsSync, readlinkSync } from "node:fs";
import {
  enterOwnMountNamespace,
  mappedLibraries,
  notNeeded,
  withMountsKept,
} from "../../../src/control/isolate.ts";

const here = (): string => readlinkSync("/proc/self/ns/mnt");

test("a process is started in mounts of its own, and we are back in ours", async () => {
  const home = here();
  const directory = process.cwd();
  for (let round = 0; round < 3; round++) {
    const { entered, child, worker } = withMountsKept(() => ({
      entered: enterOwnMountNamespace(),
      worker: new Worker("data:text/javascript,setTimeout(() => {}, 1000)"),
      child: Bun.spawn(["readlink", "/proc/self/ns/mnt"], { stdout: "pipe" }),
    }));
    expect(here()).toBe(home);
    expect(process.cwd()).toBe(directory);
    expect(existsSync("package.json")).toBe(true);
    const there = (await child.stdout.text()).trim();
    if (entered) expect(there).not.toBe(home);
    const next = Bun.spawnSync(["readlink", "/proc/self/ns/mnt"]).stdout.toString().trim();
    expect(next).toBe(home);
    worker.terminate();
  }
});

describe("mounts that the daemon leaves", () => {
  const LIBRARIES = ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
  const left = (...points: string[]): string[] => notNeeded(points, ["/run/ublk/", ...LIBRARIES]);

  test("are all but its own needs, the inner ones first", () => {
    const needed = ["/", "/proc", "/sys", "/dev", "/run"];
    expect(left(...needed, "/home", "/mnt", "/dev/shm", "/mnt/a")).toEqual([
      ...["/mnt/a", "/dev/shm", "/mnt", "/home"],
    ]);
  });

  test("are not those that its libraries are in, nor where its state is", () => {
    const kept = ["/usr", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/lib64", "/run/ublk"];
    expect(left("/", ...kept)).toEqual([]);
    expect(left("/", "/usr/lib/x86", "/usr/local", "/lib6")).toEqual([
      ...["/lib6", "/usr/local", "/usr/lib/x86"],
    ]);
  });

  test("can have the executable in them, and none of what else it needs to be started", () => {
    const libraries = mappedLibraries();
    expect(libraries.some((path) => /\/(?:libc|ld-musl-\w+)\.so/.test(path))).toBe(true);
    expect(libraries.some((path) => /\/ld-[\w-]+\.so/.test(path))).toBe(true);
    expect(libraries).not.toContain(readlinkSync("/proc/self/exe"));
    for (const path of libraries) expect(path).toStartWith("/");
  });
});
