/** Bit 63 of millions of entries is looked at and put right in little memory. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { check, hasQemu, must, qemuIo } from "./qemu.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

// Other programs run, on a machine that may be busy.
setDefaultTimeout(120_000);
const folder = tempFolder(MEMORY);
const testQemu = test.skipIf(!hasQemu);
const TOOLS = join(import.meta.dir, "../../../targets/qcow2/tools.ts");
const MiB = 1 << 20;
const MEMORY_MAX = 250 * MiB;

/** In a process of its own. What wait4 says of its memory begins with the parent's. */
const SCRIPT = `
  const { qcow2Tools } = await import(process.argv[1]);
  const { status } = qcow2Tools.check(process.argv[2], { repair: process.argv[3] });
  const memory = /VmHWM:\\s*(\\d+) kB/.exec(await Bun.file("/proc/self/status").text());
  console.log(JSON.stringify({ status, memory: Number(memory[1]) * 1024 }));
`;

function checkedApart(path: string, ...repair: string[]): number {
  const command = [process.execPath, "-e", SCRIPT, TOOLS, path, ...repair];
  const { stdout, stderr } = Bun.spawnSync(command, { stdin: "ignore" });
  expect(stderr.toString()).toBe("");
  const { status, memory } = JSON.parse(stdout.toString()) as { status: number; memory: number };
  expect(memory).toBeGreaterThan(MiB);
  expect(memory).toBeLessThan(MEMORY_MAX);
  return status;
}

testQemu("a disk that lost two million counts is checked and repaired in little memory", () => {
  const path = folder("honest.qcow2");
  const options = "preallocation=metadata,cluster_size=4096";
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "8G"]);
  qemuIo(path, ["write -P 1 0 1M"]);
  const fd = openSync(path, "r+");
  const refcountTable = offsetAt(fd, 48);
  writeSync(fd, new Uint8Array(4096), 0, 4096, refcountTable);
  closeSync(fd);
  expect(checkedApart(path)).toBe(2);
  expect(checkedApart(path, "all")).toBe(0);
  expect(check(path).status).toBe(0);
  qemuIo(path, ["read -P 1 0 1M"]);
});

testQemu("so is an image all of whose entries lead to one cluster", () => {
  const path = folder("hostile.qcow2");
  const cluster = 2 * MiB;
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", path, "4T"]);
  const copied = 1n << 63n;
  const l1 = BigUint64Array.from({ length: 8 }, (_, at) => copied | BigInt((16 + at) * cluster));
  const l2 = new BigUint64Array(cluster / 8).fill(copied | BigInt(8 * cluster));
  const fd = openSync(path, "r+");
  writeSync(fd, l1.map(swapped), 0, l1.byteLength, offsetAt(fd, 40));
  const table = new Uint8Array(l2.map(swapped).buffer);
  for (let at = 0; at < 8; at++) writeSync(fd, table, 0, cluster, (16 + at) * cluster);
  closeSync(fd);
  expect(checkedApart(path)).toBe(2);
});

/** A field of the header. */
function offsetAt(fd: number, at: number): number {
  const bytes = Buffer.alloc(8);
  readSync(fd, bytes, 0, 8, at);
  return Number(bytes.readBigUInt64BE());
}

function swapped(number: bigint): bigint {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, number);
  return view.getBigUint64(0, true);
}
