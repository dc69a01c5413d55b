/** src/cli/spelling.ts: what other programs' users type means what it means there. */

import { expect, test } from "bun:test";
import { addOptions } from "../../../src/cli/add.ts";
import { type OptionTable, parseId, parseOptions } from "../../../src/cli/options.ts";
import { setAffinityCommand } from "../../../src/cli/set_affinity.ts";
import { targets } from "../../../targets/index.ts";

const { table: ADD } = await addOptions(targets, ["-t", "null"]);
const SET_AFFINITY = setAffinityCommand.args as OptionTable;

const parsed = (line: string, table: OptionTable): object => ({
  ...parseOptions(line === "" ? [] : line.split(" "), table),
});

test.each([
  ["--uring_comp 1", { "comp-in-task": true }],
  ["--uring-comp 0", { "comp-in-task": false }],
  ["--need_get_data 1", { "get-data": true }],
  ["--zerocopy", { "zero-copy": true }],
  ["--zero_copy", { "zero-copy": true }],
  ["--batch_io", { batch: true }],
  ["--batch-io", { batch: true }],
  ["--user_copy", { usercopy: true }],
  ["--queue 2", { queues: "2" }],
  ["--queue=2", { queues: "2" }],
  ["--debug_mask 0x3", {}],
  ["--debug_mask=0x3 -z", { "zero-copy": true }],
  ["--quiesce -z", { "zero-copy": true }],
])("ublksrv's '%s' is one of add's options", (line, values) => {
  expect(parsed(line, ADD)).toEqual(values);
});

test("a name that means another option of the verb means that", () => {
  expect(parsed("--queue 1 --cpuset 0", SET_AFFINITY)).toEqual({ queue: "1", cpuset: "0" });
});

test.each(["--uring_comp 1", "--debug_mask 1", "--quiesce", "--queues 1", "--constructor"])(
  "'%s' is unknown to a verb that has nothing like it",
  (line) => {
    expect(() => parsed(line, SET_AFFINITY)).toThrow("unknown option '--");
  },
);

test("-1 is a number of a device, and one that no device has", () => {
  expect(parsed("-n -1 -q 2", ADD)).toEqual({ number: "-1", queues: "2" });
  expect(parsed("-q 2 --number -1", ADD)).toEqual({ number: "-1", queues: "2" });
  expect(() => parseId("-1")).toThrow("-n '-1': give a device number");
  expect(() => parsed("-q -1", ADD)).toThrow("for a value write --queues=-1");
});

test("two spellings of one option are one option that is given twice", () => {
  expect(() => parsed("-u 1 --uring_comp 1", ADD)).toThrow("--comp-in-task is given twice");
  expect(() => parsed("--queue 1 -q 2", ADD)).toThrow("--queues is given twice");
});
