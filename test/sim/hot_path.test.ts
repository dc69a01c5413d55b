/** A million requests through the hot path, and the collector has nothing to do. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { hasQemu, must } from "../targets/qcow2/qemu.ts";
import { STILL_DISK_REQUESTS } from "./still_ring.ts";
import { MEMORY, tempFolder } from "../temp.ts";

const folder = tempFolder(MEMORY);

interface Heard {
  /** Collections between BEGIN and END. */
  collections: number;
  /** KiB that the heap grew meanwhile. */
  grown: number;
}

/** Runs hot_path.ts with the collector's log switched on. */
function listen(target: string, mode: string, length = 4096, image: string[] = []): Heard {
  const script = join(import.meta.dir, "hot_path.ts");
  const words = [target, mode, String(length), ...image];
  const child = Bun.spawnSync([process.execPath, script, ...words], {
    env: { ...process.env, BUN_JSC_logGC: "1" },
  });
  const log = child.stderr.toString();
  const [before = "", rest = ""] = log.split("BEGIN\n");
  const [during = "", after = ""] = rest.split("END\n");
  expect(child.exitCode, log).toBe(0);
  const swept = [...before.matchAll(/Full sweep: \d+kb => (\d+)kb/g)].at(-1);
  const found = /START M (\d+)kb => FullCollection/.exec(after);
  return {
    collections: during.match(/START M/g)?.length ?? 0,
    grown: Number(found?.[1]) - Number(swept?.[1]),
  };
}

/** The first requests to an image wait for its table. */
const SLACK = 400; // KiB, where one small object a request would be 16 MiB at the least

test.each([
  ["loop", "copy"],
  ["loop", "user-copy"],
  ["loop", "zero-copy"],
  ["loop", "auto-zero-copy"],
  ["null", "copy"],
])("a million requests to the %s target by %s allocate nothing", (target, mode) => {
  const { collections, grown } = listen(target, mode);
  expect(collections).toBe(0);
  expect(grown).toBeLessThan(SLACK);
});

/** A cluster is 64 KiB: a long request is in two. */
test.skipIf(!hasQemu).each([4096, 128 << 10])(
  "a million requests of %d bytes to an image with all its clusters allocate nothing",
  (length) => {
    const image = folder(`${length}.qcow2`);
    const size = String(length * STILL_DISK_REQUESTS);
    const all = "preallocation=metadata";
    must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", all, image, size]);
    const { collections, grown } = listen("qcow2", "auto-zero-copy", length, [image]);
    expect(collections).toBe(0);
    expect(grown).toBeLessThan(SLACK);
  },
);

test("a target that allocates one object a request is found out", () => {
  expect(listen("wasteful", "copy").collections).toBeGreaterThan(0);
});
