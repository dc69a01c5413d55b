/** targets/loop.ts: options to configuration, and an open file to the facts of a disk. */

import { describe, expect, test } from "bun:test";
import { SysError } from "../../ffi/errno.ts";
import { UsageError } from "../../src/target/parse.ts";
import loop from "../../targets/loop.ts";
import { fileOf, tempFolder, thrown } from "../temp.ts";

const path = tempFolder();
const MiB = 1 << 20;

describe("configuration", () => {
  test("is what was given, with an absolute path and bytes", () => {
    const values = { file: "a.img", offset: "8", "read-only": true, "buffered-io": true };
    expect(loop.configure(values)).toEqual({
      backing_file: `${process.cwd()}/a.img`,
      offset: 4096,
      read_only: true,
      buffered_io: true,
    });
  });

  test("has defaults for all but the file", () => {
    expect(loop.configure({ file: "/a" })).toEqual({
      backing_file: "/a",
      offset: 0,
      read_only: false,
      buffered_io: false,
    });
    expect(() => loop.configure({})).toThrow(new UsageError("-t loop needs -f FILE"));
    expect(() => loop.configure({ file: "" })).toThrow(UsageError);
  });
});

describe("an open file", () => {
  const open = (size: number, values: Record<string, string | boolean> = {}) => {
    const file = fileOf(path("image"), size);
    return loop.open(loop.configure({ file, ...values }));
  };

  test("is a disk with a cache to flush and to write through", () => {
    const { disk, close } = open(MiB);
    expect(disk).toMatchObject({ size: MiB, flush: true, fua: true, readOnly: false });
    expect(disk.files).toHaveLength(1);
    expect(disk.report).toMatchObject({ backing_file: path("image"), offset: 0 });
    close();
  });

  test("that has grown is the disk that it was, until it is resized", () => {
    open(MiB).close();
    const config = loop.configure({ file: fileOf(path("image"), MiB + 8192 + 100) });
    const { disk, resizer, close } = loop.open(config, undefined, MiB);
    expect(disk.size).toBe(MiB);
    expect(resizer!.found(4096)).toBe(MiB + 8192);
    close();
  });

  test("begins where it was told to", () => {
    const { disk, close } = open(MiB, { offset: "64K" });
    expect([disk.size, disk.report["offset"]]).toEqual([MiB - 65536, 65536]);
    close();
  });

  test("that is read-only gives nothing back", () => {
    const { disk, close } = open(MiB, { "read-only": true });
    expect([disk.readOnly, disk.discardGranularity, disk.writeZeroes]).toEqual([true, 0, false]);
    close();
  });

  test("tells whether it is read and written directly", () => {
    const { disk, close } = open(MiB, { "buffered-io": true });
    expect([disk.report["direct_io"], disk.memoryAlignment]).toEqual([false, 1]);
    close();
  });

  test("is locked until it is closed", () => {
    const { close } = open(MiB);
    expect(thrown(() => loop.open(loop.configure({ file: path("image") })))).toBeInstanceOf(
      SysError,
    );
    close();
    loop.open(loop.configure({ file: path("image") })).close();
  });
});
