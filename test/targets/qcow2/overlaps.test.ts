/** WRITEs in flight that meet in a page: parts through the page cache, whole ones directly. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { FLAG_NOUNMAP, OP_FLUSH, OP_WRITE, OP_WRITE_ZEROES } from "../../../src/target/target.ts";
import { Random } from "../../sim/random.ts";
import { tempFolder } from "../../temp.ts";
import { check, hasQemu, must } from "./qemu.ts";
import { type Request, Rig } from "./rig.ts";

// Other programs run, on a machine that may be busy.
setDefaultTimeout(60_000);
// On a disk: in memory there is no direct IO that could meet anything.
const folder = tempFolder();
const SECTOR = 512;
const PAGE = 4096;
const SIZE = 1 << 20;

function overlapping(random: Random, count: number): Request[] {
  return Array.from({ length: count }, (_, at): Request => {
    if (at % 50 === 49) return { op: OP_FLUSH, offset: 0, length: 0 };
    const unit = random.pick([SECTOR, PAGE]);
    const length = unit * (1 + random.int(unit === PAGE ? 2 : 20));
    const offset = random.int((SIZE - length) / unit) * unit;
    if (random.chance(0.1)) return { op: OP_WRITE_ZEROES, flags: FLAG_NOUNMAP, offset, length };
    return { op: OP_WRITE, offset, length, bytes: new Uint8Array(length).fill(random.int(256)) };
  });
}

test.skipIf(!hasQemu)("are no fault of the disk's", () => {
  const path = folder("overlaps.qcow2");
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, "1M"]);
  const rig = new Rig(path, { depth: 32, direct: true });
  const bytes = new Uint8Array(SIZE).fill(1);
  rig.run([{ op: OP_WRITE, offset: 0, length: SIZE, bytes }]);
  for (let round = 0; round < 20; round++) {
    const failed = rig.run(overlapping(new Random(round), 1000)).filter(({ result }) => result < 0);
    expect(failed).toEqual([]);
  }
  expect(rig.log).toEqual([]);
  rig.close();
  expect(check(path)).toMatchObject({ status: 0 });
});
