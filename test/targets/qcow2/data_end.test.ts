/** Data files that end inside of a cluster. */

import { expect, test } from "bun:test";
import { truncateSync } from "node:fs";
import { OP_READ, OP_WRITE } from "../../../src/target/target.ts";
import { hasQemu, must, qemuIo } from "./qemu.ts";
import { Rig } from "./rig.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

const folder = tempFolder(MEMORY);
const KiB = 1024;

test.skipIf(!hasQemu)("what is written behind the end of a data file is read again", () => {
  const path = folder("short.qcow2");
  const data = folder("short.data");
  const options = `cluster_size=64k,data_file=${data}`;
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "1M"]);
  qemuIo(path, ["write -P 1 0 128k"]);
  truncateSync(data, 96 * KiB); // as `qemu-img resize --shrink` and a crash can leave it
  const rig = new Rig(path, { depth: 1 });
  const bytes = new Uint8Array(4 * KiB).fill(7);
  const read = { op: OP_READ, offset: 112 * KiB, length: bytes.length };
  expect(rig.run([read])[0]!.bytes.every((byte) => byte === 0)).toBe(true);
  const write = { op: OP_WRITE, offset: 0, length: bytes.length, bytes };
  rig.run([write]); // the first one is never the fast way
  rig.run([{ ...write, offset: read.offset }]);
  expect(rig.run([read])[0]!.bytes).toEqual(bytes);
  rig.close();
});
