/** ffi/ublk_cmd.ts against the newest header: sizes, offsets, values, and flags without a name. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as ublk from "../../ffi/ublk_cmd.ts";
import { askCompiler, newestKernelHeaders } from "../c_compiler.ts";

const headers = await newestKernelHeaders();
const why = "missing" in headers ? ` (${headers.missing})` : "";
const include = "include" in headers ? headers.include : "";
const testAbi = test.skipIf("missing" in headers);

const IOD = "struct ublksrv_io_desc";
const IO_CMD = "struct ublksrv_io_cmd";
/** Numbers of ours that are no constant of the header: what they mean there. */
const MEANINGS: Record<string, string> = {
  IOD_SIZE: `sizeof(${IOD})`,
  IOD_WORDS: `sizeof(${IOD}) / 4`,
  IOD_OP_FLAGS: `offsetof(${IOD}, op_flags) / 4`,
  IOD_NR_SECTORS: `offsetof(${IOD}, nr_sectors) / 4`,
  IOD_START_SECTOR: `offsetof(${IOD}, start_sector) / 4`,
  IO_CMD_QID_TAG: `offsetof(${IO_CMD}, q_id) / 4`,
  IO_CMD_RESULT: `offsetof(${IO_CMD}, result) / 4`,
  IO_CMD_ADDR: `offsetof(${IO_CMD}, addr) / 4`,
};
/** Structs that we fill in part. */
const PARTIAL = new Set(["ublk_params"]);

type AnyStruct = { name: string; size: number; fields: Record<string, Place> };
type Place = { offset: number; size: number };

function isStruct(value: unknown): value is AnyStruct {
  return typeof value === "object" && value !== null && "fields" in value && "encode" in value;
}

const questions = new Map<string, string>();
const ours = new Map<string, bigint>();
const ask = (name: string, expression: string, value: number): void => {
  questions.set(name, expression);
  ours.set(name, BigInt(value));
};
for (const [name, value] of Object.entries(ublk)) {
  if (typeof value === "number") ask(name, MEANINGS[name] ?? name, value);
  else if (isStruct(value)) askStruct(value);
}
for (const [name, value] of Object.entries(ublk.CTRL)) ask(name, name, value);
ublk.FEATURES.forEach(({ flag }, bit) => ask(flag, flag, 2 ** bit));
ublk.STATES.forEach((state, number) => {
  ask(`UBLK_S_DEV_${state}`, `UBLK_S_DEV_${state}`, number);
});

function askStruct({ name, size, fields }: AnyStruct): void {
  const type = `struct ${name}`;
  if (!PARTIAL.has(name)) ask(`sizeof ${name}`, `sizeof(${type})`, size);
  for (const [member, place] of Object.entries(fields)) {
    ask(`${name}.${member}`, `offsetof(${type}, ${member})`, place.offset);
    ask(`sizeof ${name}.${member}`, `SIZE(${type}, ${member})`, place.size);
  }
}

testAbi(`every size, offset and value is the header's${why}`, () => {
  const theirs = askCompiler(["errno.h", "linux/ioctl.h", "linux/ublk_cmd.h"], questions, include);
  expect(Object.fromEntries(ours)).toEqual(Object.fromEntries(theirs));
  expect(theirs.size).toBeGreaterThan(100);
});

testAbi(`every feature flag of the header has a name of ours${why}`, () => {
  const header = readFileSync(join(include, "linux/ublk_cmd.h"), "utf8");
  const flags = header.matchAll(/#define\s+(UBLK_F_\w+)/g).map((match) => match[1]);
  expect([...flags]).toEqual(ublk.FEATURES.map(({ flag }) => flag));
});

testAbi(`q_id and tag share the first word of a command${why}`, () => {
  const halves = new Map([
    ["q_id", `offsetof(${IO_CMD}, q_id)`],
    ["tag", `offsetof(${IO_CMD}, tag)`],
    ["size", `sizeof(${IO_CMD})`],
  ]);
  const found = askCompiler(["linux/ublk_cmd.h"], halves, include);
  expect([...found.values()]).toEqual([0n, 2n, 16n]);
});

testAbi("a wrong offset would be noticed", () => {
  const wrong = new Map([["state", "offsetof(struct ublksrv_ctrl_dev_info, state)"]]);
  expect(askCompiler(["linux/ublk_cmd.h"], wrong, include).get("state")).not.toBe(6n);
  expect(() => askCompiler(["linux/ublk_cmd.h"], new Map([["x", "UBLK_NONE"]]), include)).toThrow(
    "UBLK_NONE",
  );
});
