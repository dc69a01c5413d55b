/** Where entries lead: only to what they can mean. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { OP_READ, OP_WRITE, OP_WRITE_ZEROES } from "../../../src/target/target.ts";
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

/** An image with an external data file, and where its L1 table and its first L2 table are. */
function external(name: string, commands: string[]) {
  const path = folder(name);
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", `data_file=${path}.data`, path, "1M"]);
  qemuIo(path, commands);
  const bytes = new Uint8Array(readFileSync(path));
  const view = new DataView(bytes.buffer);
  const l1 = headerOf(bytes).l1Offset;
  const l2 = Number(view.getBigUint64(l1) & 0xfffffffffffe00n);
  return { path, view, l1, l2, save: () => writeFileSync(path, bytes) };
}

testQemu("a table that is copied goes on showing the first cluster of a data file", () => {
  const { path, view, l1, save } = external("copied.qcow2", ["write -P 9 0 64k"]);
  view.setUint8(l1, view.getUint8(l1) & 0x7f); // as if others had the table, too
  save();
  const rig = new Rig(path);
  const bytes = new Uint8Array(512).fill(6);
  const [answer] = rig.run([{ op: OP_WRITE, offset: 5 * 64 * KiB, length: 512, bytes }]);
  expect(answer!.result).toBe(512);
  expect(rig.read(0, 64 * KiB).every((byte) => byte === 9)).toBe(true);
  rig.close();
});

testQemu("zeros are not written where an entry of a data file cannot be right", () => {
  const { path, view, l2, save } = external("astray.qcow2", ["write -P 9 0 64k"]);
  view.setBigUint64(l2 + 5 * 8, 1n << 63n);
  save();
  const rig = new Rig(path);
  const astray = { op: OP_WRITE_ZEROES, offset: 4 * 64 * KiB, length: 3 * 64 * KiB };
  expect(rig.run([astray]).map(({ result }) => result)).toEqual([EIO]);
  rig.close();
});
