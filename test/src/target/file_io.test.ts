/** src/target/file_io.ts: whole reads and writes of an open file, errors with their errno. */

import { expect, test } from "bun:test";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { SysError } from "../../../ffi/errno.ts";
import { DescriptorFile } from "../../../src/target/file_io.ts";
import { tempFolder, thrown } from "../../temp.ts";

const path = tempFolder();
const { EBADF, EIO } = constants.errno;

function withFile(text: string, flags: string, use: (file: DescriptorFile) => void): void {
  writeFileSync(path("a"), text);
  const fd = openSync(path("a"), flags);
  try {
    use(new DescriptorFile(fd, path("a")));
  } finally {
    closeSync(fd);
  }
}

test("what is read is what is there, and the end is told", () => {
  withFile("0123456789", "r", (file) => {
    const bytes = new Uint8Array(4);
    expect([file.read(bytes, 2), Buffer.from(bytes).toString()]).toEqual([4, "2345"]);
    expect(file.read(bytes, 8)).toBe(2);
    expect(file.read(bytes, 100)).toBe(0);
    expect(file.size()).toBe(10);
  });
});

test("what is written is there, behind the end too", () => {
  withFile("0123456789", "r+", (file) => {
    file.write(Buffer.from("ab"), 1);
    file.write(Buffer.from("z"), 12);
    file.sync();
    expect(file.size()).toBe(13);
  });
  expect(readFileSync(path("a"), "latin1")).toBe("0ab3456789\0\0z");
});

test("large pieces go in one call to us, however many it takes", () => {
  withFile("", "r+", (file) => {
    const bytes = Buffer.alloc(3 << 20, 7);
    file.write(bytes, 5);
    const back = new Uint8Array(bytes.length);
    expect(file.read(back, 5)).toBe(bytes.length);
    expect(Buffer.from(back).equals(bytes)).toBe(true);
  });
});

test("an offset that no file can have is an error of the file's", () => {
  withFile("a", "r", (file) => {
    for (const offset of [2 ** 53, 2 ** 60, 2 ** 64]) {
      const error = thrown(() => file.read(new Uint8Array(1), offset)) as SysError;
      expect(error).toBeInstanceOf(SysError);
      expect([error.op, error.errno, error.subject]).toEqual(["read", EIO, path("a")]);
    }
    expect(file.read(new Uint8Array(1), Number.MAX_SAFE_INTEGER)).toBe(0);
  });
});

test("a mistake of ours is none of the file's", () => {
  withFile("a", "r", (file) => {
    expect(thrown(() => file.read(new Uint8Array(1), 0.5))).toBeInstanceOf(RangeError);
  });
});

test("an error has the call, the file and the errno", () => {
  withFile("", "r", (file) => {
    const error = thrown(() => file.write(Buffer.from("a"), 0)) as SysError;
    expect(error).toBeInstanceOf(SysError);
    expect([error.op, error.errno, error.subject]).toEqual(["write", EBADF, path("a")]);
  });
});
