/** Damaged and odd images: a check and a repair end as those of qemu-img do, and lose no data. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { SysError } from "../../../src/target/file_io.ts";
import { qcow2Tools } from "../../../targets/qcow2/tools.ts";
import { MEMORY, tempFolder, thrown } from "../../temp.ts";
import { check, contents, hasQemu, must, qemuIo, run } from "./qemu.ts";
import { headerOf } from "./reference.ts";
import { Rig } from "./rig.ts";
import { change, image, type Tables } from "./spoiled.ts";

// Other programs run, on a machine that may be busy.
setDefaultTimeout(60_000);
const folder = tempFolder(MEMORY);
const testQemu = test.skipIf(!hasQemu);
const CLUSTER = 64 << 10;
const ZERO_FLAG = 1n;
const COPIED = 1n << 63n;

type Repair = "leaks" | "all" | undefined;

const statusOf = (path: string, repair?: Repair): number =>
  qcow2Tools.check(path, { repair }).status;

/** As `qemu-img check` ends, which is given a copy: it changes what it repairs. */
function theirs(path: string, repair?: Repair): number {
  const copy = `${path}.theirs`;
  copyFileSync(path, copy);
  const how = repair === undefined ? [] : ["-r", repair];
  const { status } = run(["qemu-img", "check", "-q", "-f", "qcow2", ...how, copy]);
  rmSync(copy);
  return status;
}

/** What `qemu-img check` reports, without what it says beside. */
function theirFindings(path: string): Record<string, unknown> {
  const { output } = run(["qemu-img", "check", "--output=json", "-f", "qcow2", path]);
  return JSON.parse(output.slice(output.indexOf("{"), output.lastIndexOf("}") + 1));
}

/** Where the first refcount block has the count of a cluster, of 16 bits. */
const countAt = (view: DataView, { counts }: Tables, offset: bigint): number =>
  Number(view.getBigUint64(counts)) + (Number(offset) / CLUSTER) * 2;

/** As a snapshot's deletion that failed leaves it. */
function countedTwice(name: string): string {
  const path = image(folder(name));
  change(path, (view, at) => {
    view.setUint16(countAt(view, at, at.data), 2);
    view.setBigUint64(at.l2, at.data);
  });
  return path;
}

for (const repair of ["leaks", "all"] as const) {
  testQemu(`an entry whose cluster is its own again says so after -r ${repair}`, () => {
    const path = countedTwice(`twice-${repair}`);
    const before = contents(path);
    expect(statusOf(path)).toBe(theirs(path));
    expect(theirs(path, repair)).toBe(0);
    expect(statusOf(path, repair)).toBe(0);
    expect(check(path)).toMatchObject({ status: 0 });
    expect(contents(path).equals(before)).toBe(true);
  });

  testQemu(
    `a compressed cluster that seems to go beyond the file is not freed by ${repair}`,
    () => {
      const path = folder(`far-${repair}`);
      must(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"]);
      qemuIo(path, ["write -c -P 7 0 64k"]);
      let entry = 0n;
      change(path, (view, { l2 }) => {
        entry = view.getBigUint64(l2);
        view.setBigUint64(l2, entry | (0xffn << 54n));
      });
      expect(statusOf(path, repair)).toBe(2);
      qemuIo(path, ["read -P 7 0 64k"]);
      change(path, (view, { l2 }) => view.setBigUint64(l2, entry));
      expect(check(path)).toMatchObject({ status: 0 });
    },
  );
}

testQemu(
  "what is given back at the end of a killed server's disk leaves flags that are right",
  () => {
    const path = countedTwice("killed");
    const rig = new Rig(path, { recovering: true });
    rig.close();
    expect(check(path)).toMatchObject({ status: 0 });
  },
);

testQemu("bit 0 of an extended entry means nothing", () => {
  const path = image(folder("bit0"), "extended_l2=on,cluster_size=64k");
  const before = contents(path);
  change(path, (view, { l2 }) => view.setBigUint64(l2, view.getBigUint64(l2) | ZERO_FLAG));
  expect(theirs(path)).toBe(0);
  expect(statusOf(path)).toBe(0);
  const rig = new Rig(path);
  expect(rig.read(0, before.length).every((byte, at) => byte === before[at])).toBe(true);
  rig.close();
});

testQemu.each([
  ["48", 0n],
  ["48", 1n << 40n],
  ["56", 0n],
])("an image that has lost its refcount table (offset %s) is made whole", (at, value) => {
  const path = image(folder(`lost-${at}-${value}`));
  const before = contents(path);
  change(path, (view) => {
    if (at === "48") view.setBigUint64(48, value);
    else view.setUint32(56, Number(value));
  });
  expect(thrown(() => headerOf(readFileSync(path)))).toBeInstanceOf(SysError);
  expect(statusOf(path)).toBe(2);
  expect(qcow2Tools.info(path).images).toHaveLength(1);
  expect(statusOf(path, "all")).toBe(0);
  expect(check(path)).toMatchObject({ status: 0 });
  expect(contents(path).equals(before)).toBe(true);
});

testQemu("counts that are behind the end of the file are made anew", () => {
  const path = image(folder("behind"));
  const before = contents(path);
  change(path, (view, { counts }) => view.setBigUint64(counts, 1n << 40n));
  expect(statusOf(path)).toBe(2);
  expect(theirs(path, "all")).toBe(0);
  expect(statusOf(path, "all")).toBe(0);
  expect(check(path)).toMatchObject({ status: 0 });
  expect(contents(path).equals(before)).toBe(true);
});

testQemu("more users than can be counted stay an error, and the rest is repaired", () => {
  const path = image(folder("many"), "cluster_size=64k,refcount_bits=1");
  change(path, (view, { l2 }) => view.setBigUint64(l2 + 8, view.getBigUint64(l2)));
  expect(theirs(path, "all")).toBe(2);
  expect(statusOf(path, "all")).toBe(2);
});

testQemu.each([
  ["zero", "cluster_size=64k", 0n],
  ["extended", "cluster_size=64k,extended_l2=on", 0xffff_ffff_0000_0000n],
])(
  "a cluster without data (%s) needs no offset, least of all one that cannot be",
  (_, how, bits) => {
    const path = image(folder(`offset-${_}`), how);
    change(path, (view, { l2, data }) => {
      const plain = bits === 0n;
      view.setBigUint64(l2, COPIED | (data + 512n) | (plain ? ZERO_FLAG : 0n));
      if (!plain) view.setBigUint64(l2 + 8, bits);
    });
    expect(statusOf(path)).toBe(2);
    expect(theirs(path, "all")).toBe(0);
    expect(statusOf(path, "all")).toBe(0);
    expect(check(path)).toMatchObject({ status: 0 });
    qemuIo(path, ["read -P 0 0 64k"]);
  },
);

testQemu("a snapshot with a table that cannot be is an error of the check, and shown", () => {
  const path = image(folder("snapshot"));
  must(["qemu-img", "snapshot", "-c", "s", path]);
  const entry = headerOf(readFileSync(path)).snapshotsOffset;
  change(path, (view) => view.setUint32(entry + 8, 0x7fffffff));
  expect(statusOf(path)).toBe(theirs(path));
  expect(qcow2Tools.info(path).images[0]).toMatchObject({ snapshots: [{ name: "s" }] });
  expect(statusOf(path, "leaks")).toBe(2);
  change(path, (view) => view.setUint32(entry + 8, 1));
  expect(check(path)).toMatchObject({ status: 0 });
});

testQemu("info shows an image whose data file is elsewhere, and does not open it", () => {
  const path = folder("external.qcow2");
  const data = `${path}.raw`;
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", `data_file=${data}`, path, "8M"]);
  rmSync(data);
  expect(qcow2Tools.info(path).images).toMatchObject([{ data_file: data }]);
});

testQemu("the end of an image is behind the last cluster that is counted", () => {
  const path = image(folder("end"));
  const end = BigInt(readFileSync(path).length);
  writeFileSync(path, new Uint8Array(CLUSTER), { flag: "a" });
  change(path, (view, at) => view.setUint16(countAt(view, at, end), 1));
  const { json } = qcow2Tools.check(path, { repair: undefined });
  expect(json["image_end_offset"]).toBe(theirFindings(path)["image-end-offset"]);
});

testQemu("a refcount block that data uses as well is an error of its own", () => {
  const path = image(folder("shared"));
  change(path, (view, { counts, l2 }) => {
    view.setBigUint64(l2, COPIED | view.getBigUint64(counts));
  });
  const { json } = qcow2Tools.check(path, { repair: undefined });
  expect(json["corruptions"]).toBe(theirFindings(path)["corruptions"]);
});

testQemu("a bitmap's table is not read where it is longer than the format allows", () => {
  const path = image(folder("bitmap"));
  must(["qemu-img", "bitmap", "--add", path, "some-name"]);
  const entry = readFileSync(path).lastIndexOf("some-name") - 24;
  change(path, (view) => view.setUint32(entry + 8, 0x7fffffff));
  truncateSync(path, 2 ** 35);
  const error = thrown(() => qcow2Tools.check(path, { repair: undefined }));
  expect(String(error)).toContain("bitmap tables exceed the file or their limit, 1 GiB");
});

testQemu("a header extension may not begin where they have to have ended", () => {
  const path = image(folder("extension"));
  change(path, (view) => view.setBigUint64(8, BigInt(view.getUint32(100) + 4)));
  expect(String(thrown(() => headerOf(readFileSync(path))))).toContain("goes beyond the end");
});

testQemu("the last name of a feature may be cut short", () => {
  const path = image(folder("feature"));
  const table = readFileSync(path).indexOf(Buffer.from([0x68, 0x03, 0xf8, 0x57]));
  change(path, (view) => {
    view.setUint32(table + 4, 14);
    view.setBigUint64(table + 24, 0n);
  });
  expect(headerOf(readFileSync(path)).featureNames).toEqual([
    { kind: 0, bit: 0, name: "dirty bit" },
  ]);
});
