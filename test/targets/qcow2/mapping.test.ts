/** Where entries lead: only to what they can mean. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { OP_READ, OP_WRITE } from "../../../src/target/target.ts";
import { hasQemu, must, qemuIo } from "./qemu.ts";
import { headerOf } from "./reference.ts";
import { Rig } from "./rig.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

// Other programs run, on a machine that may be busy.
setDefaultTimeout(60_000);
const folder = tempFolder(MEMORY);
const testQemu = test.skipIf(!hasQemu);
const KiB = 1024;
const EIO = -5;

testQemu("an entry of an external data file leads to its own cluster or nowhere", () => {
  const path = folder("external.qcow2");
  const data = folder("external.data");
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", `data_file=${data}`, path, "1M"]);
  qemuIo(path, ["write -P 9 0 64k"]);
  const bytes = new Uint8Array(readFileSync(path));
  const view = new DataView(bytes.buffer);
  const l2 = Number(view.getBigUint64(headerOf(bytes).l1Offset) & 0xfffffffffffe00n);
  view.setBigUint64(l2 + 5 * 8, 1n << 63n); // offset 0, which is the first cluster's
  writeFileSync(path, bytes);
  const rig = new Rig(path);
  const astray = { offset: 5 * 64 * KiB, length: 512 };
  const written = { ...astray, op: OP_WRITE, bytes: new Uint8Array(512).fill(6) };
  const answers = rig.run([{ ...astray, op: OP_READ }, written]);
  expect(answers.map(({ result }) => result)).toEqual([EIO, EIO]);
  expect(rig.read(0, 64 * KiB).every((byte) => byte === 9)).toBe(true);
  rig.close();
});
