/** ffi/ublk_cmd.ts against the newest header: sizes, offsets, values, and flags without a name. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as ublk from "../../ffi/ublk_cmd.ts";
import { askCompiler, type Layouts, layoutsOf, newestKernelHeaders } from "../c_compiler.ts";

const headers = await newestKernelHeaders();
const why = "missing" in headers ? ` (${headers.missing})` : "";
const include = "include" in headers ? headers.include : "";
const testAbi = test.skipIf("missing" in headers);

const IOD = "struct ublksrv_io_desc";
const IO_CMD = "struct ublksrv_io_cmd";
const BATCH = "struct ublk_batch_io";
const ELEM = "struct ublk_elem_header";
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
  BATCH_QID_FLAGS: `offsetof(${BATCH}, q_id) / 4`,
  BATCH_NR_ELEM_BYTES: `offsetof(${BATCH}, nr_elem) / 4`,
  ELEM_SIZE: `sizeof(${ELEM})`,
  ELEM_SIZE_WITH_ADDR: `sizeof(${ELEM}) + sizeof(__u64)`,
  UBLK_AUTO_BUF_REG_FLAGS_SHIFT: "offsetof(struct ublk_auto_buf_reg, flags) * 8",
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

/** Where members share a word of ours: their bytes from the struct's beginning. */
const HALVES: Layouts = {
  [IO_CMD]: { q_id: 0, tag: 2 },
  [BATCH]: { q_id: 0, flags: 2, nr_elem: 4, elem_bytes: 6 },
  [ELEM]: { tag: 0, buf_index: 2, result: 4 },
  "struct ublk_auto_buf_reg": { index: 0, flags: 2 },
};

testAbi(`members that share a word are where we write them${why}`, () => {
  expect(layoutsOf(HALVES, ["linux/ublk_cmd.h"], include)).toEqual(HALVES);
});

testAbi("a wrong offset would be noticed", () => {
  const wrong = new Map([["state", "offsetof(struct ublksrv_ctrl_dev_info, state)"]]);
  expect(askCompiler(["linux/ublk_cmd.h"], wrong, include).get("state")).not.toBe(6n);
  expect(() => askCompiler(["linux/ublk_cmd.h"], new Map([["x", "UBLK_NONE"]]), include)).toThrow(
    "UBLK_NONE",
  );
});
