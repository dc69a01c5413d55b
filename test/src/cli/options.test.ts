/** src/cli/options.ts: what is meant is taken, what cannot be meant is refused in one line. */

import { describe, expect, test } from "bun:test";
import {
  idOrAll,
  neededId,
  type OptionTable,
  parseId,
  parseOptions,
  peekOption,
  type SwitchDef,
} from "../../../src/cli/options.ts";
import { UsageError } from "../../../src/target/parse.ts";
import { thrown } from "../../temp.ts";

const BIT: SwitchDef = { type: "boolean", alias: "u", takesBit: true, description: "a bit" };
const TABLE: OptionTable = {
  type: { type: "string", alias: "t", description: "a word" },
  "max-io-buf-bytes": { type: "string", description: "a size" },
  queues: { type: "string", alias: "q", description: "a number" },
  zero: { type: "boolean", alias: "z", description: "a switch" },
  "no-fill": { type: "boolean", description: "a switch that says no" },
  "comp-in-task": BIT,
};

describe("what is meant is taken:", () => {
  test.each([
    ["", {}],
    ["-t null", { type: "null" }],
    ["-tnull", { type: "null" }],
    ["--type null", { type: "null" }],
    ["--type=null", { type: "null" }],
    ["--type=a=b", { type: "a=b" }],
    ["-q2", { queues: "2" }],
    ["-zq 2", { zero: true, queues: "2" }],
    ["-zq2", { zero: true, queues: "2" }],
    ["-z -t null", { zero: true, type: "null" }],
    ["--max-io-buf-bytes 4K", { "max-io-buf-bytes": "4K" }],
    ["--max_io_buf_bytes 4K", { "max-io-buf-bytes": "4K" }],
    ["--max_io_buf_bytes=a_b", { "max-io-buf-bytes": "a_b" }],
    ["-t a_b", { type: "a_b" }],
    ["-t=null", { type: "=null" }],
    ["--no-fill", { "no-fill": true }],
    ["--no_fill", { "no-fill": true }],
    ["-u", { "comp-in-task": true }],
    ["-u 1", { "comp-in-task": true }],
    ["-u 0", { "comp-in-task": false }],
    ["--comp_in_task 0", { "comp-in-task": false }],
    ["-u1", { "comp-in-task": true }],
    ["-u0", { "comp-in-task": false }],
    ["--comp-in-task=1", { "comp-in-task": true }],
    ["--comp_in_task=0", { "comp-in-task": false }],
    ["-u1 -q1", { "comp-in-task": true, queues: "1" }],
    ["-uz", { "comp-in-task": true, zero: true }],
    ["-u -t 0", { "comp-in-task": true, type: "0" }],
  ] as [string, object][])("'%s'", (line, values) => {
    expect(JSON.stringify(parseOptions(words(line), TABLE))).toBe(JSON.stringify(values));
  });

  test("a value may be empty or have spaces", () => {
    expect({ ...parseOptions(["-t", "", "--queues", "a b"], TABLE) }).toEqual({
      type: "",
      queues: "a b",
    });
  });
});

describe("what cannot be meant is refused:", () => {
  test.each([
    ["--bogus", "unknown option '--bogus'"],
    ["--bogus=1", "unknown option '--bogus'"],
    ["-x", "unknown option '-x'"],
    ["-zx", "unknown option '-x'"],
    ["--no-zero", "unknown option '--no-zero'"],
    ["--typ null", "unknown option '--typ'"],
    ["-t", "argument missing"],
    ["--queues", "argument missing"],
    ["-t -z", "--type '-z': this looks like an option; for a value write --type=-z"],
    ["--queues -1", "for a value write --queues=-1"],
    ["-zq -1", "for a value write --queues=-1"],
    ["--zero=yes", "does not take an argument"],
    ["stray", "unexpected word 'stray'"],
    ["-z 1", "unexpected word '1'"],
    ["-u 2", "unexpected word '2'"],
    ["-u2", "unknown option '-2'"],
    ["-z1", "unknown option '-1'"],
    ["--comp-in-task=2", "does not take an argument"],
    ["--zero=1", "does not take an argument"],
    ["-u1 -u0", "--comp-in-task is given twice"],
    ["-- -z", "unexpected word '-z'"],
    ["-t a -t b", "--type is given twice"],
    ["-t a --type=a", "--type is given twice"],
    ["-z -z", "--zero is given twice"],
    ["-zz", "--zero is given twice"],
    ["-u 0 -u 0", "--comp-in-task is given twice"],
    ["-u 0 -u", "--comp-in-task is given twice"],
    ["-u 1 -u 0", "--comp-in-task is given twice"],
    ["-u --comp-in-task", "--comp-in-task is given twice"],
  ])("'%s'", (line, message) => {
    const parse = (): unknown => parseOptions(words(line), TABLE);
    expect(parse).toThrow(UsageError);
    expect(parse).toThrow(message);
  });

  test.each(["--bogus", "-t", "stray", "-t -z", "--zero=1"])("'%s' in one line", (line) => {
    const { message } = thrown(() => parseOptions(words(line), TABLE)) as Error;
    expect(message).not.toContain("\n");
    expect(message.length).toBeLessThan(100);
  });
});

describe("one option can be found before the others are known:", () => {
  test.each([
    ["-t null", "null"],
    ["-tnull --file x", "null"],
    ["--whatever --type=loop", "loop"],
    ["-zt loop -f x", "loop"],
    ["-ut loop", "loop"],
    ["-u 1 -t loop", "loop"],
    ["-t=null", "=null"],
    ["-t loop -f/tmp/a.img", "loop"],
    ["-f/tmp/a.img -tloop", "loop"],
    ["-f/a/root -t loop", "loop"],
    ["-ft -t loop", "loop"],
    ["-zf/tmp/a.img", undefined],
    ["-t", undefined],
    ["", undefined],
    ["--types null", undefined],
    ["--file t", undefined],
  ])("'%s'", (line, type) => {
    expect(peekOption(words(line), TABLE, "type")).toBe(type);
  });
});

test.each(["0", "7", "1048575"])("'%s' is a device, by its number and by its nodes", (text) => {
  for (const name of [text, `/dev/ublkb${text}`, `/dev/ublkc${text}`]) {
    expect(parseId(name)).toBe(Number(text));
  }
});

const PART = "/dev/ublkb0p1";
test.each(["", "-1", "1.0", "0x1", "1048576", "ublkb0", " 1", "/dev/ublkb", "/dev/sda1", PART])(
  "'%s' is no device",
  (text) => {
    expect(() => parseId(text)).toThrow(`-n '${text}': give a device number from 0 to 1048575`);
  },
);

describe("one device, or all:", () => {
  test("one of the two has to be said", () => {
    expect(idOrAll({ number: "3" })).toBe(3);
    expect(idOrAll({ all: true })).toBeUndefined();
    expect(() => idOrAll({})).toThrow("say which device: -n ID, or -a");
    expect(() => idOrAll({ number: "3", all: true })).toThrow("-n and -a exclude each other");
  });

  test("where there is no all, the number is needed", () => {
    expect(neededId({ number: "0" })).toBe(0);
    expect(() => neededId({})).toThrow(new UsageError("say which device: -n ID"));
  });
});

function words(line: string): string[] {
  return line === "" ? [] : line.split(" ");
}
