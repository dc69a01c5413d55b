/** targets/null.ts: sizes, and a disk that promises no more than it keeps. */

import { expect, test } from "bun:test";
import { UsageError } from "../../src/target/parse.ts";
import nullTarget from "../../targets/null.ts";

const DEFAULTS = { size: 250 * 2 ** 30, fill: true, read_only: false };

test.each([
  [{}, DEFAULTS],
  [{ size: "1G" }, { ...DEFAULTS, size: 2 ** 30 }],
  [{ size: "512" }, { ...DEFAULTS, size: 512 }],
  [{ "no-fill": true }, { ...DEFAULTS, fill: false }],
  [{ "read-only": true }, { ...DEFAULTS, read_only: true }],
])("%j is %j", (values, config) => {
  expect(nullTarget.configure(values)).toEqual(config);
});

test.each(["0", "100", "513", "-1", "", "big", "0.5K5"])("a size of '%s' is refused", (size) => {
  expect(() => nullTarget.configure({ size })).toThrow(UsageError);
});

test("it is read-only when that was said; versions that could not be told kept no word of it", () => {
  const older = { size: 2 ** 30, fill: true };
  for (const [config, readOnly] of [
    [{ ...older, read_only: true }, true],
    [{ ...older, read_only: false }, false],
    [older, false],
  ] as const) {
    expect(nullTarget.isConfig(config)).toBe(true);
    expect(nullTarget.open(config).disk.readOnly).toBe(readOnly);
  }
  expect(nullTarget.isConfig({ ...older, read_only: "yes" })).toBe(false);
});

test("it has no files, no cache to flush, and forgets whatever is discarded", () => {
  const { disk, close } = nullTarget.open({ size: 2 ** 30, fill: true });
  expect(disk).toMatchObject({ size: 2 ** 30, files: [], flush: false, fua: false });
  expect([disk.discardGranularity, disk.writeZeroes, disk.readOnly]).toEqual([512, true, false]);
  close();
});
