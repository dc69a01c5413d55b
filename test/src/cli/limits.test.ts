/** src/cli/limits.ts: block sizes and CPU sets as people type them. */

import { describe, expect, test } from "bun:test";
import { askedLimits, LIMIT_OPTIONS, parseAffinity, parseCpuSet } from "../../../src/cli/limits.ts";
import { parseOptions } from "../../../src/cli/options.ts";
import { UsageError } from "../../../src/target/parse.ts";

const asked = (line: string) =>
  askedLimits(parseOptions(line === "" ? [] : line.split(" "), LIMIT_OPTIONS));

test.each([
  ["", {}],
  ["--logical-block-size 4K", { logicalBlock: 4096 }],
  ["--logical_block_size=512", { logicalBlock: 512 }],
  ["--physical-block-size 1M", { physicalBlock: 1 << 20 }],
  ["--rotational", { rotational: true }],
])("'%s'", (line, limits) => {
  expect(asked(line)).toEqual(limits);
});

test.each([
  "--logical-block-size 256",
  "--logical-block-size 8K",
  "--logical-block-size 1000",
  "--physical-block-size 512M",
  "--physical-block-size 3K",
])("'%s' is refused with the range", (line) => {
  expect(() => asked(line)).toThrow(UsageError);
  expect(() => asked(line)).toThrow("give a power of two from 512 to");
});

describe("a set of CPUs:", () => {
  test.each([
    ["0", [0]],
    ["0-3", [0, 1, 2, 3]],
    ["8,0-1", [0, 1, 8]],
    ["3,3,2-4", [2, 3, 4]],
    ["4095", [4095]],
  ])("'%s'", (text, cpus) => {
    expect(parseCpuSet("--cpuset", text)).toEqual(cpus);
  });

  test.each(["", ",", "a", "1-", "-1", "3-1", "4096", "0-4096", "1;2", "0x1"])(
    "'%s' is refused",
    (text) => {
      expect(() => parseCpuSet("--cpuset", text)).toThrow(
        new UsageError(`--cpuset '${text}': give CPUs such as 0-3,8`),
      );
    },
  );

  test("queue by queue", () => {
    expect(parseAffinity("0-1/2,3")).toEqual([
      [0, 1],
      [2, 3],
    ]);
    expect(() => parseAffinity("0//1")).toThrow(UsageError);
  });
});
