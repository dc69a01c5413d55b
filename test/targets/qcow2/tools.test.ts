/** What `ublk info` says is what qemu-img info says, field by field. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { qcow2Tools } from "../../../targets/qcow2/tools.ts";
import { Random } from "../../sim/random.ts";
import { retelling, seedsToTell } from "../../sim/seeds.ts";
import { memoryFolder } from "./folder.ts";
import { chooseShape, createImage, qemuFill } from "./images.ts";
import { hasQemu, must } from "./qemu.ts";

setDefaultTimeout(60_000);
const PATH = import.meta.path;
const SMOKE = 10;
const folder = memoryFolder();
const seeds = seedsToTell(SMOKE);

type Facts = Record<string, unknown>;

function theirs(path: string): Facts[] {
  const text = must(["qemu-img", "info", "--output=json", "--backing-chain", path]);
  return (JSON.parse(text) as Facts[]).map((image) => {
    const { data = {} } = (image["format-specific"] ?? {}) as { data?: Facts };
    const snapshots = (image["snapshots"] ?? []) as Facts[];
    const common = {
      path: image["filename"],
      format: image["format"],
      virtual_size: image["virtual-size"],
      actual_size: image["actual-size"],
    };
    if (image["format"] === "raw") return common;
    return {
      ...common,
      cluster_size: image["cluster-size"],
      dirty: image["dirty-flag"],
      compat: data["compat"],
      compression_type: data["compression-type"],
      refcount_bits: data["refcount-bits"],
      lazy_refcounts: data["lazy-refcounts"] ?? false,
      corrupt: data["corrupt"] ?? false,
      extended_l2: data["extended-l2"] ?? false,
      backing_file: image["full-backing-filename"],
      backing_name: image["backing-filename"],
      backing_format: image["backing-filename-format"],
      data_file: data["data-file"],
      data_file_raw: data["data-file-raw"],
      bitmaps: data["bitmaps"] ?? [],
      snapshots: snapshots.map((one) => ({ id: one["id"], name: one["name"] })),
    };
  });
}

function ours(path: string): Facts[] {
  return qcow2Tools.info(path).images.map((image) => {
    const { file_size: _, version: __, encryption: ___, ...facts } = image;
    if (facts["snapshots"] === undefined) return facts;
    const snapshots = facts["snapshots"] as Facts[];
    return { ...facts, snapshots: snapshots.map(({ id, name }) => ({ id, name })) };
  });
}

test.skipIf(!hasQemu)("info says of images of every kind what qemu-img info says", () => {
  for (const seed of seeds) {
    retelling(seed, PATH, () => {
      const random = new Random(seed);
      const path = folder(`${seed}.qcow2`);
      const shape = chooseShape(random);
      createImage(path, shape, random);
      qemuFill(path, shape, random, 3);
      for (let index = 0; index < shape.snapshots; index++) {
        must(["qemu-img", "snapshot", "-c", `s${index}`, path]);
      }
      if (shape.version === 3 && shape.dataFile === "none" && shape.refcountBits >= 8) {
        must(["qemu-img", "bitmap", "--add", "-g", "64k", path, "followed"]);
        must(["qemu-img", "bitmap", "--add", "--disable", path, "kept"]);
      }
      expect(ours(path)).toEqual(theirs(path));
    });
  }
});
