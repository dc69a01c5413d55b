/** targets/null.ts: sizes, and a disk that promises no more than it keeps. */

import { expect, test } from "bun:test";
import { UsageError } from "../../src/target/parse.ts";
import nullTarget from "../../targets/null.ts";

test.each([
  [{}, { size: 250 * 2 ** 30, fill: true }],
  [{ size: "1G" }, { size: 2 ** 30, fill: true }],
  [{ size: "512" }, { size: 512, fill: true }],
  [{ "no-fill": true }, { size: 250 * 2 ** 30, fill: false }],
])("%j is %j", (values, config) => {
  expect(nullTarget.configure(values)).toEqual(config);
});

test.each(["0", "100", "513", "-1", "", "big", "0.5K5"])("a size of '%s' is refused", (size) => {
  expect(() => nullTarget.configure({ size })).toThrow(UsageError);
});

test("it has no files, no cache to flush, and forgets whatever is discarded", () => {
  const { disk, close } = nullTarget.open({ size: 2 ** 30, fill: true });
  expect(disk).toMatchObject({ size: 2 ** 30, files: [], flush: false, fua: false });
  expect([disk.discardGranularity, disk.writeZeroes, disk.readOnly]).toEqual([512, true, false]);
  close();
});
