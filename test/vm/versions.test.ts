// The right kernel and the right modules are chosen from what there is.

import { expect, test } from "bun:test";
import { withDependencies } from "./kernel.ts";
import { kernelList, MATRIX, newest, newestKernel } from "./versions.ts";

const NAMES = [
  "linux-image-6.12.94+deb13-cloud-amd64",
  "linux-image-6.12.107+deb13-cloud-amd64",
  "linux-image-6.12.107+deb13-cloud-amd64-dbg",
  "linux-image-6.12.107+deb13-cloud-amd64-unsigned",
  "linux-image-7.2.9+deb13-cloud-amd64",
  "linux-image-7.2.12+deb13-cloud-amd64",
  "linux-image-7.3-cloud-amd64",
  "linux-image-cloud-amd64",
];

test("versions are compared as numbers", () => {
  expect(newest(["7.2.9", "7.2.12", "7.2.6"])).toBe("7.2.12");
  expect(newest(["linux-source-6.12", "linux-source-7.2"])).toBe("linux-source-7.2");
  expect(newest([])).toBeUndefined();
});

test("the newest kernel of a line is a package that can be booted", () => {
  expect(newestKernel(NAMES, "6.12")).toBe("linux-image-6.12.107+deb13-cloud-amd64");
  expect(newestKernel(NAMES, "7.2")).toBe("linux-image-7.2.12+deb13-cloud-amd64");
  expect(newestKernel(NAMES, "rc")).toBe("linux-image-7.3-cloud-amd64");
  expect(newestKernel(NAMES, "6.1")).toBeUndefined();
});

test("kernels are asked for by their lines, or all at once", () => {
  expect(kernelList("7.2, rc,")).toEqual(["7.2", "rc"]);
  expect(kernelList("all")).toEqual([...MATRIX]);
  expect(kernelList("")).toEqual([]);
});

test("a module brings the modules it needs, however its name is spelled", () => {
  const text =
    "kernel/fs/xfs/xfs.ko.xz: kernel/lib/crc.ko.xz\nkernel/md/dm-mod.ko:\nkernel/a.ko:\n";
  expect([...withDependencies(text, ["xfs", "dm_mod"])].toSorted()).toEqual([
    "kernel/fs/xfs/xfs.ko.xz",
    "kernel/lib/crc.ko.xz",
    "kernel/md/dm-mod.ko",
  ]);
});
