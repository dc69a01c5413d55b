/** src/control/isolate.ts: a start among other mounts, and the way back. */

import { expect, test } from "bun:test";
import { existsSync, readlinkSync } from "node:fs";
import { enterOwnMountNamespace, withMountsKept } from "../../../src/control/isolate.ts";

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
