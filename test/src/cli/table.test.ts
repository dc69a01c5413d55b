/** src/cli/table.ts: columns that line up, numbers that fit in them. */

import { expect, test } from "bun:test";
import { amount, bytes, columns, duration } from "../../../src/cli/table.ts";

test("columns are as wide as their widest cell", () => {
  const rows = [
    ["a", "1", ""],
    ["long name", "22222", "x"],
  ];
  expect(columns(["NAME", ">N", "REST"], rows)).toBe(
    "NAME           N  REST\na              1\nlong name  22222  x\n",
  );
});

test.each([
  [bytes, 0, "0"],
  [bytes, 512, "512"],
  [bytes, 4096, "4K"],
  [bytes, 1536, "1.5K"],
  [bytes, 250 * 2 ** 30, "250G"],
  [bytes, 2 ** 60, "1024P"],
  [amount, 12, "12"],
  [amount, 12.34, "12.3"],
  [amount, 123456, "123k"],
  [amount, 1_234_567, "1.2M"],
  [duration, 0.4, "0.4us"],
  [duration, 85, "85us"],
  [duration, 1234, "1.2ms"],
  [duration, 3_000_000, "3s"],
] as const)("%o of %d is '%s'", (form, value, text) => {
  expect(form(value)).toBe(text);
});
