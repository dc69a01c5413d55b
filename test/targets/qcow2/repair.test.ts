/** A repair takes away what nobody uses, and never what somebody might. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, openSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { DescriptorFile, type SyncFile } from "../../../src/target/file_io.ts";
import { readHeader, readStart } from "../../../targets/qcow2/header.ts";
import { qcow2Tools } from "../../../targets/qcow2/tools.ts";
import { type Repair, repairImage } from "../../../targets/qcow2/repair.ts";
import { check, contents, hasQemu, must } from "./qemu.ts";
import { change, image as spoiledImage, type Tables } from "./spoiled.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

// Other programs run, on a machine that may be busy.
setDefaultTimeout(60_000);
const folder = tempFolder(MEMORY);
const testQemu = test.skipIf(!hasQemu);
const KIND = { repair: undefined };

const image = (name: string, options?: string): string => spoiledImage(folder(name), options);

for (const stranger of ["data", "l2"] as const) {
  testQemu(`a refcount table that leads to ${stranger} changes nothing there`, () => {
    const path = image(`stranger-${stranger}`);
    const before = contents(path);
    // Of a range that is not in use, so that nothing else is wrong with it.
    change(path, (view, at) => view.setBigUint64(at.counts + 8, BigInt(at[stranger])));
    const spoiled = readFileSync(path);
    expect(qcow2Tools.check(path, KIND)).toMatchObject({ status: 2 });
    expect(qcow2Tools.check(path, { repair: "leaks" })).toMatchObject({ status: 2 });
    expect(readFileSync(path).equals(spoiled)).toBe(true);
    expect(qcow2Tools.check(path, { repair: "all" })).toMatchObject({ status: 0 });
    expect(check(path)).toMatchObject({ status: 0 });
    expect(contents(path).equals(before)).toBe(true);
  });
}

for (const repair of ["leaks", "all"] as Repair[]) {
  testQemu(`what an L1 entry of bit 63 alone has lost sight of is not freed by ${repair}`, () => {
    const path = image(`bare-${repair}`);
    const before = contents(path);
    let entry = 0n;
    change(path, (view, { l1 }) => {
      entry = view.getBigUint64(l1);
      view.setBigUint64(l1, 1n << 63n);
    });
    expect(qcow2Tools.check(path, KIND)).toMatchObject({ status: 2 });
    expect(qcow2Tools.check(path, { repair })).toMatchObject({ status: 2 });
    change(path, (view, { l1 }) => view.setBigUint64(l1, entry));
    expect(check(path)).toMatchObject({ status: 0 });
    expect(contents(path).equals(before)).toBe(true);
  });

  testQemu(`what stands behind a table that cannot be followed is not freed by ${repair}`, () => {
    const path = image(`reserved-${repair}`);
    const before = contents(path);
    const flip = (view: DataView, { l1 }: Tables): void =>
      view.setBigUint64(l1, view.getBigUint64(l1) ^ (1n << 57n));
    change(path, flip);
    expect(qcow2Tools.check(path, KIND)).toMatchObject({ status: 2 });
    expect(qcow2Tools.check(path, { repair })).toMatchObject({ status: 2 });
    change(path, flip);
    expect(check(path)).toMatchObject({ status: 0 });
    expect(contents(path).equals(before)).toBe(true);
  });
}

testQemu("a bitmap goes on being right when a leak is given back", () => {
  const path = image("bitmap");
  must(["qemu-img", "bitmap", "--add", path, "b"]);
  change(path, (view, at) => view.setUint16(Number(view.getBigUint64(at.counts)) + 60, 1));
  writeFileSync(path, new Uint8Array(64 << 10), { flag: "a" });
  const clusters = Math.ceil(statSync(path).size / (64 << 10));
  expect(clusters).toBeLessThan(30);
  must(["truncate", "-s", String(31 * (64 << 10)), path]);
  expect(qcow2Tools.check(path, KIND)).toMatchObject({ status: 3 });
  expect(qcow2Tools.check(path, { repair: "leaks" })).toMatchObject({ status: 0 });
  const { data } = JSON.parse(must(["qemu-img", "info", "--output=json", path]))["format-specific"];
  expect(data.bitmaps).toMatchObject([{ name: "b", flags: ["auto"] }]);
});

test.skipIf(!hasQemu)(
  "a refcount block that stands in its table a hundred thousand times is read once",
  () => {
    const path = image("million", "cluster_size=2M");
    change(path, (view, at) => {
      const block = view.getBigUint64(at.counts);
      for (let index = 1; index < 100_000; index++) view.setBigUint64(at.counts + index * 8, block);
    });
    expect(qcow2Tools.check(path, KIND)).toMatchObject({ status: 2 });
  },
  20_000, // reading it every time takes minutes
);

/** As a block device: it ends where it ends. */
function deviceOf(file: DescriptorFile): SyncFile {
  const limit = file.size();
  return {
    path: file.path,
    limit,
    size: () => limit,
    read: (bytes, offset) => file.read(bytes, offset),
    write(bytes, offset) {
      if (offset + bytes.length > limit) throw new Error("behind the end of the device");
      file.write(bytes, offset);
    },
    punch: (offset, length) => file.punch(offset, length),
    truncate: () => {},
    sync: () => file.sync(),
    dropCached: () => {},
  };
}

testQemu("lost refcount blocks are made anew on a block device, in what nobody uses", () => {
  const path = image("device", "cluster_size=4k");
  const before = contents(path);
  truncateSync(path, 64 << 20);
  change(path, (view, { counts }) => view.setBigUint64(counts, 0n));
  const fd = openSync(path, "r+");
  const device = deviceOf(new DescriptorFile(fd, path));
  const header = readHeader(readStart(device), path, device.size());
  expect(repairImage(device, header, "all")).toMatchObject({ corruptions: 0, leaks: 0 });
  closeSync(fd);
  expect(statSync(path).size).toBe(64 << 20);
  expect(check(path)).toMatchObject({ status: 0 });
  expect(contents(path).equals(before)).toBe(true);
});
