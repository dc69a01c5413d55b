/** src/cli/limits.ts: block sizes and CPU sets as people type them. */

import { expect, test } from "bun:test";
import { askedLimits, LIMIT_OPTIONS, parseAffinity } from "../../../src/cli/limits.ts";
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

test("sets of CPUs go queue by queue, and no queue has two", () => {
  expect(parseAffinity("0-1/2,3", 2)).toEqual([
    [0, 1],
    [2, 3],
  ]);
  expect(parseAffinity("0-1", 2)).toEqual([[0, 1]]);
  expect(() => parseAffinity("0//1", 3)).toThrow(UsageError);
  expect(() => parseAffinity("0/1", 1)).toThrow("2 sets for 1 queues");
});
