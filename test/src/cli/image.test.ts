/** src/cli/image.ts: one image among the options of a verb. */

import { describe, expect, test } from "bun:test";
import { imageArgument } from "../../../src/cli/image.ts";
import { JSON_OPTION, type OptionTable } from "../../../src/cli/options.ts";
import { UsageError } from "../../../src/target/parse.ts";

const TABLE: OptionTable = {
  repair: { type: "string", alias: "r", description: "what to repair" },
  json: JSON_OPTION,
};
const parse = (line: string) => imageArgument("check", line === "" ? [] : line.split(" "), TABLE);

test.each([
  ["/a", {}],
  ["/a --json", { json: true }],
  ["--json /a", { json: true }],
  ["-r all /a", { repair: "all" }],
  ["/a -r all --json", { repair: "all", json: true }],
  ["--repair=all /a", { repair: "all" }],
  ["--repair leaks /a", { repair: "leaks" }],
])("'%s'", (line, values) => {
  const found = parse(line);
  expect(found.path).toBe("/a");
  expect(JSON.stringify(found.values)).toBe(JSON.stringify(values));
});

test("a path is made absolute, and may be called -", () => {
  expect(parse("a.qcow2").path).toBe(`${process.cwd()}/a.qcow2`);
  expect(parse("-").path).toBe(`${process.cwd()}/-`);
  expect(parse("--json -- -dash.img").path).toBe(`${process.cwd()}/-dash.img`);
});

describe("refused:", () => {
  test.each([
    ["", "which image? ublk check FILE"],
    ["--json", "which image?"],
    ["-r /a", "which image?"],
    ["/a /b", "unexpected word '/b': one image at a time"],
    ["-dash.img", "unknown option '-d'"],
    ["-- /a /b", "unexpected word '/b'"],
    ["/a --bogus", "unknown option '--bogus'"],
    ["/a -r", "argument missing"],
    ["/a --json --json", "--json is given twice"],
  ])("'%s'", (line, message) => {
    expect(() => parse(line)).toThrow(UsageError);
    expect(() => parse(line)).toThrow(message);
  });
});
