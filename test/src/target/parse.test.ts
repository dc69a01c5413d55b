/** src/target/parse.ts: sizes and counts as people type them. */

import { describe, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import {
  absolutePath,
  cpuSetText,
  parseCount,
  parseCpuSet,
  parseSectors,
  parseSize,
  UsageError,
} from "../../../src/target/parse.ts";
import { tempFolder } from "../../temp.ts";

const path = tempFolder();
const PARSE = join(import.meta.dir, "../../../src/target/parse.ts");

describe("a size", () => {
  test.each([
    ["0", 0],
    ["512", 512],
    ["512B", 512],
    ["64k", 65536],
    ["64K", 65536],
    ["64KiB", 65536],
    ["64kb", 65536],
    ["1M", 2 ** 20],
    ["1.5G", 1.5 * 2 ** 30],
    ["0.5K", 512],
    ["250GiB", 250 * 2 ** 30],
    ["2 T", 2 * 2 ** 40],
    [" 1P ", 2 ** 50],
    ["9007199254740991", 2 ** 53 - 1],
  ])("'%s' is %i bytes", (text, bytes) => {
    expect(parseSize("--size", text)).toBe(bytes);
  });

  test.each([
    ...["", " ", "K", "-1", "+1", "1e3", "0x10", "1,5G", "1.5", "0.3K", "1Z", "1KK", "1iB2"],
    ...["1.", ".5G", "1 000", "NaN", "Infinity"],
  ])("'%s' is refused with what was expected", (text) => {
    expect(() => parseSize("--size", text)).toThrow(UsageError);
    expect(() => parseSize("--size", text)).toThrow(`--size '${text}': give a size such as`);
  });

  test.each(["8P", "8192P", "9007199254740992"])("'%s' is refused with the bound", (text) => {
    expect(() => parseSize("--size", text)).toThrow(UsageError);
    expect(() => parseSize("--size", text)).toThrow(`--size '${text}': give less than 8P`);
  });
});

test.each([
  ["0", 0],
  ["8", 4096],
  ["2048", 2 ** 20],
  ["8B", 8],
  ["4K", 4096],
  ["1M", 2 ** 20],
])("'%s' as sectors is %i bytes: a bare number counts 512 bytes each", (text, bytes) => {
  expect(parseSectors("--offset", text)).toBe(bytes);
});

describe("a count", () => {
  test.each([
    ["1", 1],
    ["128", 128],
    ["0004", 4],
  ])("'%s' is %i", (text, count) => {
    expect(parseCount("--depth", text, 1, 128)).toBe(count);
  });

  test.each(["0", "129", "", " 1", "1.0", "-1", "1e1", "0x10", "4K", "one"])(
    "'%s' is refused with the range",
    (text) => {
      const message = `--depth '${text}': give a whole number from 1 to 128`;
      expect(() => parseCount("--depth", text, 1, 128)).toThrow(new UsageError(message));
    },
  );
});

describe("a set of CPUs:", () => {
  test.each([
    ["0", [0]],
    ["0-3", [0, 1, 2, 3]],
    ["8,0-1", [0, 1, 8]],
    ["3,3,2-4", [2, 3, 4]],
    ["4095", [4095]],
    ["[0-3]", [0, 1, 2, 3]],
    ["[2,0]", [0, 2]],
  ])("'%s'", (text, cpus) => {
    expect(parseCpuSet("--cpuset", text)).toEqual(cpus);
    expect(parseCpuSet("--cpuset", cpuSetText(cpus))).toEqual(cpus);
  });

  test("is written as briefly as it can be", () => {
    expect(cpuSetText([0, 1, 2, 3, 8, 10, 11])).toBe("0-3,8,10-11");
  });

  test.each([
    "",
    ",",
    "a",
    "1-",
    "-1",
    "3-1",
    "4096",
    "0-4096",
    "1;2",
    "0x1",
    "[0",
    "0]",
    "[[0]]",
    "[]",
  ])("'%s' is refused", (text) => {
    expect(() => parseCpuSet("--cpuset", text)).toThrow(
      new UsageError(`--cpuset '${text}': give CPUs such as 0-3,8`),
    );
  });
});

test("a path is made absolute, and a '..' in it left to the file system", () => {
  const here = process.cwd();
  expect(absolutePath("-f", "a/./b")).toBe(`${here}/a/b`);
  expect(absolutePath("-f", "/a//b")).toBe("/a/b");
  expect(absolutePath("-f", "link/../b")).toBe(`${here}/link/../b`);
  expect(absolutePath("-f", "/link/../b")).toBe("/link/../b");
});

test("an empty path is refused, with the option that it was given to", () => {
  expect(() => absolutePath("--dir", "")).toThrow(new UsageError("--dir '': give a path"));
});

test("in a directory that is deleted a path has to begin at the root, and nothing else is taken", () => {
  const folder = path("deleted");
  mkdirSync(folder);
  const script = `
    const { absolutePath } = await import(${JSON.stringify(PARSE)});
    require("node:fs").rmdirSync(${JSON.stringify(folder)});
    for (const path of ["/a", "a", "../a"]) {
      try { console.log(absolutePath("-f", path)); } catch (error) { console.log(error.message); }
    }
  `;
  const { stdout } = Bun.spawnSync([process.execPath, "-e", script], { cwd: folder });
  const why = "ENOENT (no such file or directory)";
  expect(stdout.toString()).toBe(`/a\ngetcwd a: ${why}\ngetcwd ../a: ${why}\n`);
});
