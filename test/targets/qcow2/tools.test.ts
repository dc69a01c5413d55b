/** targets/qcow2/tools.ts: what `ublk info` says is what qemu-img info says, field by field. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openImageFile } from "../../../src/target/backing_file.ts";
import { qcow2Tools } from "../../../targets/qcow2/tools.ts";
import { Random } from "../../sim/random.ts";
import { retelling, seedsToTell } from "../../sim/seeds.ts";
import { chooseShape, createImage, qemuFill } from "./images.ts";
import { hasQemu, must } from "./qemu.ts";
import { MEMORY, tempFolder } from "../../temp.ts";

setDefaultTimeout(60_000);
const PATH = import.meta.path;
const MAIN = join(import.meta.dir, "../../../src/main.ts");
const SMOKE = 10;
const folder = tempFolder(MEMORY);
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

/** An image that says that it stands on `name`, whether or not that is so. */
function standingOn(image: string, name: string, format: string): string {
  const path = folder(image);
  must(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", format, "-b", name, path, "1M"]);
  return path;
}

function readLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ""; // the descriptor of the listing itself
  }
}

describe.skipIf(!hasQemu)(
  "a backing file that cannot be opened is said, and the rest shown:",
  () => {
    const known = (): Facts => ({ format: "qcow2", virtual_size: 1 << 20, bitmaps: [] });
    test.each([
      ["nothere.img", "raw", /^open .*\/nothere.img: ENOENT/],
      ["rubbish.qcow2", "qcow2", /^qcow2 .*\/rubbish.qcow2: has no qcow2 magic$/],
      ["again.qcow2", "qcow2", /^qcow2 .*\/again.qcow2: is its own backing file/],
      [".", "raw", /is a directory/],
    ])("%s as %s", (name, format, reason) => {
      writeFileSync(folder("rubbish.qcow2"), "no image at all");
      const path = standingOn("again.qcow2", name, format);
      const { images } = qcow2Tools.info(path);
      expect(images).toHaveLength(1);
      expect(images[0]).toMatchObject({ ...known(), backing_name: name, backing_format: format });
      expect(images[0]!["backing_file"]).toBe(
        name.startsWith("/") ? name : `${folder("")}/${name}`,
      );
      expect(images[0]!["backing_error"]).toMatch(reason);
    });

    test.each([
      ["nbd://host/export", "raw", /only plain file names are followed$/],
      [
        "old.vmdk",
        "vmdk",
        /^qcow2 .*\/foreign.qcow2: its backing file is 'vmdk', not raw or qcow2$/,
      ],
    ])("%s as %s", (name, format, reason) => {
      const [image, ...more] = qcow2Tools.info(standingOn("foreign.qcow2", name, format)).images;
      expect(image).toMatchObject({ ...known(), backing_name: name });
      expect(image!["backing_error"]).toMatch(reason);
      expect(more).toEqual([]);
    });

    test("two images behind each other, of which the second lacks its own", () => {
      const middle = standingOn("middle.qcow2", "nothere.img", "raw");
      const { images } = qcow2Tools.info(standingOn("top.qcow2", "middle.qcow2", "qcow2"));
      expect(images.map(({ path, backing_error: error }) => [path, error])).toEqual([
        [folder("top.qcow2"), undefined],
        [middle, expect.stringContaining("nothere.img: ENOENT")],
      ]);
    });

    test("no descriptor is left open", () => {
      writeFileSync(folder("rubbish.qcow2"), "no image at all");
      const path = standingOn("lacking.qcow2", "rubbish.qcow2", "qcow2");
      expect(qcow2Tools.info(path).images).toHaveLength(1);
      qcow2Tools.info(standingOn("missing.qcow2", "nothere.img", "raw"));
      const ours = (fd: string) => readLink(`/proc/self/fd/${fd}`).startsWith(folder("."));
      expect(readdirSync("/proc/self/fd").filter(ours)).toEqual([]);
    });

    test("as qemu-img says it, with status 0", () => {
      const path = standingOn("lacking.qcow2", "nothere.img", "raw");
      const theirs = JSON.parse(must(["qemu-img", "info", "--output=json", path])) as Facts;
      const child = Bun.spawnSync([process.execPath, MAIN, "info", path, "--json"]);
      expect([child.exitCode, child.stderr.toString()]).toEqual([0, ""]);
      const [image] = JSON.parse(child.stdout.toString()) as Facts[];
      expect(image!["backing_file"]).toBe(theirs["full-backing-filename"]);
      expect(image!["backing_name"]).toBe(theirs["backing-filename"]);
      const text = Bun.spawnSync([process.execPath, MAIN, "info", path]);
      expect([text.exitCode, text.stderr.toString()]).toEqual([0, ""]);
      expect(text.stdout.toString()).toMatch(/^backing error: open .*\/nothere.img: ENOENT .*$/m);
      expect(() => qcow2Tools.info(folder("nothere.img"))).toThrow("ENOENT");
    });
  },
);

function ublk(...words: string[]) {
  const child = Bun.spawnSync([process.execPath, MAIN, ...words]);
  return { code: child.exitCode, out: child.stdout.toString(), err: child.stderr.toString() };
}

test.skipIf(!hasQemu).each([0, 1, 512, 1000])("a raw file of %i bytes is shown as one", (size) => {
  const path = folder("raw.img");
  writeFileSync(path, new Uint8Array(size));
  expect(ours(path)).toEqual(theirs(path));
  expect(ublk("info", path)).toMatchObject({ code: 0, err: "" });
});

test.skipIf(!hasQemu)("an image of no size is shown, and checked", () => {
  const path = folder("none.qcow2");
  must(["qemu-img", "create", "-q", "-f", "qcow2", path, "0"]);
  expect(ours(path)).toEqual(theirs(path));
  const { status, lines } = qcow2Tools.check(path, { repair: undefined });
  expect([status, lines[0]]).toEqual([0, "no errors"]);
  expect(lines[1]).toStartWith("0/0 = 0.00%");
});

describe.skipIf(!hasQemu)("formats of others are known for what they are:", () => {
  test.each([
    ["vmdk", "VMDK"],
    ["vdi", "VDI"],
    ["vpc", "VHD"],
    ["vhdx", "VHDX"],
    ["qed", "QED"],
    ["parallels", "Parallels"],
  ])("%s", (format, name) => {
    const path = folder(`a.${format}`);
    must(["qemu-img", "create", "-q", "-f", format, path, "8M"]);
    const { code, out, err } = ublk("info", path);
    expect([code, out]).toEqual([1, ""]);
    expect(err).toStartWith(`ublk info: qcow2 ${path}: has no qcow2 magic: it is ${name}\n`);
    expect(err).toContain("qemu-img convert");
    expect(err).not.toContain("-t loop");
  });
});

test("what cannot be checked is said on standard error, with its name and status 63", () => {
  const path = folder("plain.img");
  writeFileSync(path, new Uint8Array(4096));
  const line = `check ${path}: its format has nothing that could be checked`;
  expect(ublk("check", path)).toEqual({ code: 63, out: "", err: `ublk check: ${line}\n` });
  const { code, out, err } = ublk("check", path, "--json");
  expect([code, out]).toEqual([63, ""]);
  const { error } = JSON.parse(err) as { error: Facts };
  expect(error).toMatchObject({ verb: "check", kind: "system", message: line, exit_code: 63 });
});

test.skipIf(!hasQemu)(
  "marks are told, of an image that is otherwise in order, and after repair",
  () => {
    const path = folder("marked.qcow2");
    must(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"]);
    const bytes = readFileSync(path);
    bytes[79] = 3;
    writeFileSync(path, bytes);
    const { status, lines, json } = qcow2Tools.check(path, { repair: undefined });
    expect([status, lines[0]]).toEqual([0, "no errors"]);
    expect(lines[1]).toStartWith("marked as corrupt");
    expect(lines[2]).toStartWith("marked as dirty");
    expect(json).toMatchObject({ corrupt: true, dirty: true });
    const repaired = qcow2Tools.check(path, { repair: "all" });
    expect(repaired.lines.slice(0, 2)).toEqual(["repaired: 0 errors, 0 leaks", "no errors"]);
    expect(repaired.lines.join()).not.toContain("marked");
    expect(repaired.json).toMatchObject({ corrupt: false, dirty: false });
  },
);

test.skipIf(!hasQemu)("an image in use: neither verb advises an option that it has not", () => {
  const path = folder("used.qcow2");
  must(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"]);
  const { close } = openImageFile(path, false);
  for (const words of [["info"], ["check"], ["check", "-r", "all"]]) {
    const { code, err } = ublk(...words, path);
    expect([code, err.split("\n")[1]!.trim()]).toEqual([1, "end that use first"]);
  }
  close();
});
