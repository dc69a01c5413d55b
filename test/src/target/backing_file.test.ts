/** src/target/backing_file.ts: what a disk may be kept in, on this machine's own file systems. */

import { afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  fstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { SysError } from "../../../ffi/errno.ts";
import {
  type BackingOptions,
  openBackingFile,
  openDirect,
  openImageFile,
} from "../../../src/target/backing_file.ts";
import { fileOf, tempFolder, thrown } from "../../temp.ts";

const path = tempFolder();
const MiB = 1 << 20;
const O_DIRECT = process.arch === "arm64" ? 0o200000 : 0o40000;
const O_ACCMODE = 3;
const DEFAULTS: BackingOptions = { readOnly: false, buffered: false, offset: 0 };

/** What is found of a file, and the flags with which it stays open. */
function facts(file: string, options: Partial<BackingOptions> = {}) {
  const { fd, close, ...rest } = openBackingFile(file, { ...DEFAULTS, ...options });
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
  close();
  return { ...rest, flags: Number.parseInt(/flags:\s+(\d+)/.exec(info)![1]!, 8) };
}

/** A refusal must not leave a descriptor behind. */
function refusal(file: string, options: Partial<BackingOptions> = {}): SysError {
  const before = openNames().filter((name) => name === file).length;
  const error = thrown(() => openBackingFile(file, { ...DEFAULTS, ...options }));
  expect(openNames().filter((name) => name === file)).toHaveLength(before);
  if (!(error instanceof SysError)) throw error;
  return error;
}

/** What this process has open, by name. */
function openNames(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // closed meanwhile
    }
  });
}

describe("a regular file", () => {
  test("is as large as it is, in blocks that its file system takes directly", () => {
    const found = facts(fileOf(path("a"), MiB));
    expect(found.size).toBe(MiB);
    expect(found.blockBits).toBeGreaterThanOrEqual(9);
    expect(found.blockBits).toBeLessThanOrEqual(12);
    expect(found.physicalBits).toBeGreaterThanOrEqual(found.blockBits);
    expect(found.rotational).toBe(false);
    expect((found.flags & O_DIRECT) !== 0).toBe(found.direct);
  });

  test("goes through the page cache when that is asked for", () => {
    const found = facts(fileOf(path("b"), MiB), { buffered: true });
    expect([found.direct, found.flags & O_DIRECT, found.blockBits]).toEqual([false, 0, 9]);
  });

  test("is a disk of sectors whatever its size, directly or through the page cache", () => {
    const found = facts(fileOf(path("odd"), MiB + 512));
    expect([found.size, found.blockBits]).toEqual([MiB + 512, 9]);
    expect((found.flags & O_DIRECT) !== 0).toBe(found.direct);
  });

  test("is opened for reading only when that is asked for", () => {
    const file = fileOf(path("c"), MiB);
    const found = facts(file, { readOnly: true });
    expect([found.flags & O_ACCMODE, found.discardGranularity]).toEqual([0, 0]);
    expect(facts(file).flags & O_ACCMODE).toBe(2);
  });

  test("can begin in its middle", () => {
    expect(facts(fileOf(path("d"), MiB), { offset: 4096 }).size).toBe(MiB - 4096);
    expect(facts(fileOf(path("e"), MiB), { offset: 512 }).blockBits).toBe(9);
  });

  test.each([1, 100, 512, 4096])("that has grown by %i bytes is the disk that it was", (more) => {
    for (const before of [MiB, MiB + 512]) {
      const was = facts(fileOf(path("grown"), before));
      expect(facts(fileOf(path("grown"), before + more), { size: before })).toEqual(was);
      const behind = { offset: 4096, size: before - 4096 };
      expect(facts(path("grown"), behind)).toEqual({ ...was, size: before - 4096 });
    }
  });

  test("that was cut has what is left", () => {
    expect(facts(fileOf(path("cut"), MiB), { size: 2 * MiB }).size).toBe(MiB);
  });

  test("is followed through a symbolic link", () => {
    symlinkSync(fileOf(path("f"), MiB), path("link"));
    expect(facts(path("link")).size).toBe(MiB);
  });

  test("is not changed by being looked at", () => {
    const file = fileOf(path("g"), MiB);
    const look = (): number[] => [statSync(file).size, statSync(file).blocks];
    const before = look();
    facts(file);
    expect(look()).toEqual(before);
  });
});

test("the direct descriptor is of the file that was opened, whatever has its name now", () => {
  const image = openImageFile(fileOf(path("image"), 1 << 20), false);
  const inode = fstatSync(image.fd).ino;
  renameSync(path("image"), path("elsewhere"));
  fileOf(path("image"), 1 << 20);
  const direct = openDirect(image.fd, false);
  // A file system without direct IO has none, and shows nothing.
  if (direct !== undefined) expect(fstatSync(direct.fd).ino).toBe(inode);
  direct?.close();
  image.close();
});

describe("a file in memory", () => {
  const file = `/dev/shm/ublk-test-${process.pid}`;
  afterAll(() => rmSync(file, { force: true }));

  test("can be a disk, whether or not it takes direct IO", () => {
    const found = facts(fileOf(file, MiB));
    expect([found.size, (found.flags & O_DIRECT) !== 0]).toEqual([MiB, found.direct]);
    expect(found.discardGranularity).toBeGreaterThanOrEqual(512);
  });

  test("is refused where it is larger than the offsets that an SQE is given", () => {
    expect(facts(fileOf(file, 2 ** 52)).size).toBe(2 ** 52);
    const { message } = refusal(fileOf(file, 2 ** 52 + 4096));
    expect(message).toContain("has 4503599627374592 bytes, more than the 4 PiB that can be served");
    expect(String(thrown(() => openImageFile(file, true)))).toContain("more than the 4 PiB");
  });
});

describe("what is no disk is refused with a reason and a way out", () => {
  test.each([
    ["an empty file", () => fileOf(path("empty"), 0), "is empty", "truncate -s"],
    ["a directory", () => folder(path("dir")), "is a directory", "regular file"],
    ["a fifo", () => fifo(path("fifo")), "is no disk", "block device"],
    ["a character device", () => "/dev/null", "is no disk", "block device"],
    ["half a sector", () => fileOf(path("half"), MiB + 256), "no multiple", `-s ${MiB + 512}`],
    ["a few bytes", () => fileOf(path("few"), 100), "size of 100 bytes", "truncate -s 512"],
  ])("%s", (_, make, reason, hint) => {
    const error = refusal(make());
    expect(error.message).toContain(reason);
    expect(error.hint).toContain(hint);
  });

  test("a missing file", () => {
    expect(refusal(path("missing")).message).toMatch(/^open .*missing: ENOENT/);
  });

  test.each([MiB, MiB + 512, 2 ** 52])("an offset of %i, at or behind the end", (offset) => {
    const error = refusal(fileOf(path("short"), MiB), { offset });
    expect(error.message).toContain(`has ${MiB} bytes, so no disk begins at offset ${offset}`);
    expect(error.hint).toContain("sectors of 512 bytes, or bytes with a suffix");
  });

  test("an offset that is no whole sector", () => {
    const error = refusal(fileOf(path("skew"), MiB), { offset: 100 });
    expect(error.message).toContain("offset of 100 bytes is no multiple");
  });

  test("an image that is in use", () => {
    const file = fileOf(path("used"), MiB);
    const { close } = openBackingFile(file, DEFAULTS);
    expect(refusal(file).message).toContain("is in use");
    close();
    facts(file);
  });

  test.skipIf(process.getuid?.() === 0)("a file that may only be read (root may more)", () => {
    const file = fileOf(path("locked"), MiB);
    chmodSync(file, 0o444);
    expect(refusal(file).hint).toContain("--read-only");
    expect(facts(file, { readOnly: true }).size).toBe(MiB);
  });
});

function folder(name: string): string {
  mkdirSync(name);
  return name;
}

function fifo(name: string): string {
  Bun.spawnSync(["mkfifo", name]);
  return name;
}
