/** src/cli/info.ts: what people read. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { hasQemu, must } from "../../targets/qcow2/qemu.ts";
import { tempFolder } from "../../temp.ts";

const path = tempFolder();
const MAIN = join(import.meta.dir, "../../../src/main.ts");

test.skipIf(!hasQemu)("snapshots and bitmaps are a line each, in words", () => {
  const image = path("a.qcow2");
  must(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"]);
  const info = (): string => must([process.execPath, MAIN, "info", image]);
  expect(info()).toContain("bitmaps: none\nsnapshots: none\n");
  must(["qemu-img", "snapshot", "-c", "before, after", image]);
  must(["qemu-img", "bitmap", "--add", "--disable", image, "kept"]);
  const text = info();
  expect(text).toContain('bitmaps:\n    name "kept", granularity 65536, flags none\n');
  expect(text).toContain('snapshots:\n    id "1", name "before, after", vm state size 0, ');
  expect(text).toMatch(/, disk size 64 MiB \(67108864 bytes\)$/m);
  expect(text).not.toMatch(/[{}]| $/m);
});
