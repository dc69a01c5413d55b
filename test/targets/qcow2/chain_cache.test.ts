/** A chain of images in a cache for tables that is too small for all who read at once. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { OP_READ } from "../../../src/target/target.ts";
import { MEMORY, tempFolder } from "../../temp.ts";
import { hasQemu, must, qemuIo } from "./qemu.ts";
import { type Request, Rig } from "./rig.ts";

// Other programs run, on a machine that may be busy.
setDefaultTimeout(60_000);
const folder = tempFolder(MEMORY);
const SLICES = 16;
const DEPTH = 32;
/** With clusters of 4 KiB, what one slice of an L2 table covers. */
const COVERED = 2 << 20;
const TABLES = 64;

test.skipIf(!hasQemu)("each READ that needs a slice of every image comes to its end", () => {
  const create = (name: string, ...more: string[]): string => {
    const path = folder(name);
    const how = ["-o", "cluster_size=4k", ...more, path, String(TABLES * COVERED)];
    must(["qemu-img", "create", "-q", "-f", "qcow2", ...how]);
    return path;
  };
  const first = (cluster: number): number => cluster * COVERED;
  const all = [...Array(TABLES).keys()];
  const base = create("base");
  qemuIo(
    base,
    all.map((at) => `write -P ${1 + at} ${first(at)} 8k`),
  );
  const middle = create("middle", "-b", base, "-F", "qcow2");
  qemuIo(
    middle,
    all.map((at) => `write -P 99 ${first(at) + 4096} 4k`),
  );
  const top = create("top", "-b", middle, "-F", "qcow2");
  qemuIo(
    top,
    all.map((at) => `write -P 100 ${first(at) + 8192} 4k`),
  );
  const rig = new Rig(top, { depth: DEPTH, cacheSize: SLICES * 4096 });
  const requests = all.map((at): Request => ({ op: OP_READ, offset: first(at), length: 12288 }));
  for (const [at, { bytes }] of rig.run([...requests, ...requests]).entries()) {
    const shown = [bytes[0], bytes[4096], bytes[8192]];
    expect(shown).toEqual([1 + (at % TABLES), 99, 100]);
  }
  rig.close();
});
