/** ffi/io_uring.ts: each argument lands in the member of the SQE that the header gives it. */

import { expect, test } from "bun:test";
import {
  highHalf,
  lowHalf,
  CQE_RES,
  CQE_WORDS,
  IORING_OP_URING_CMD,
  makeMultishot,
  prepCommand,
  prepRw,
  setUserData,
  skipSuccess,
  SQE_CMD,
  SQE_WORDS,
} from "../../ffi/io_uring.ts";
import { askCompiler, newestKernelHeaders } from "../c_compiler.ts";

const headers = await newestKernelHeaders();
const why = "missing" in headers ? ` (${headers.missing})` : "";
const testAbi = test.skipIf("missing" in headers);

const MEMBERS = [
  ...["opcode", "flags", "ioprio", "fd", "off", "addr", "len", "rw_flags", "user_data"],
  ...["buf_index", "personality", "file_index", "addr3", "cmd_op", "cmd"],
  ...["uring_cmd_flags", "buf_group"],
];
const LAST_WORDS = [0, 1, 2, 3].map((word) => SQE_CMD + word);

function layout(): Map<string, number> {
  const include = "include" in headers ? headers.include : "";
  const questions = new Map<string, string>();
  for (const member of MEMBERS) questions.set(member, `offsetof(struct io_uring_sqe, ${member})`);
  questions.set("sqe", "sizeof(struct io_uring_sqe)");
  questions.set("cqe", "sizeof(struct io_uring_cqe)");
  questions.set("res", "offsetof(struct io_uring_cqe, res)");
  const found = askCompiler(["linux/io_uring.h"], questions, include);
  return new Map([...found].map(([name, offset]) => [name, Number(offset)]));
}

/** An SQE full of an earlier one's leavings, and the words around it. */
function used(): { sqes: Int32Array; view: DataView } {
  const sqes = new Int32Array(3 * SQE_WORDS).fill(-1);
  return { sqes, view: new DataView(sqes.buffer, SQE_WORDS * 4, SQE_WORDS * 4) };
}

testAbi(`a read or write is laid out as struct io_uring_sqe${why}`, () => {
  const at = layout();
  const { sqes, view } = used();
  prepRw(sqes, SQE_WORDS, 22, 3, 0x1122334455667, 0x7f1234567000, 65536, 2, 9, 4);
  setUserData(sqes, SQE_WORDS, 77, 0x1234);
  expect(view.getUint8(at.get("opcode")!)).toBe(22);
  expect(view.getUint8(at.get("flags")!)).toBe(1 | 4); // IOSQE_FIXED_FILE | IOSQE_IO_LINK
  expect(view.getUint16(at.get("ioprio")!, true)).toBe(0);
  expect(view.getInt32(at.get("fd")!, true)).toBe(3);
  expect(view.getBigUint64(at.get("off")!, true)).toBe(0x1122334455667n);
  expect(view.getBigUint64(at.get("addr")!, true)).toBe(0x7f1234567000n);
  expect(view.getUint32(at.get("len")!, true)).toBe(65536);
  expect(view.getUint32(at.get("rw_flags")!, true)).toBe(2);
  expect(view.getUint32(at.get("user_data")!, true)).toBe(77);
  expect(view.getUint32(at.get("user_data")! + 4, true)).toBe(0x1234);
  expect(view.getUint16(at.get("buf_index")!, true)).toBe(9);
  expect(view.getUint16(at.get("personality")!, true)).toBe(0);
  expect(view.getUint32(at.get("file_index")!, true)).toBe(0);
  expect(view.getBigUint64(at.get("addr3")!, true)).toBe(0n);
});

testAbi(`a command is laid out as struct io_uring_sqe${why}`, () => {
  const at = layout();
  const { sqes, view } = used();
  prepCommand(sqes, SQE_WORDS, 0, 0xc0107521, 0x34567000, 0x7f12, 48);
  expect(view.getUint8(at.get("opcode")!)).toBe(IORING_OP_URING_CMD);
  expect(view.getUint32(at.get("cmd_op")!, true)).toBe(0xc0107521);
  expect(view.getBigUint64(at.get("addr")!, true)).toBe(0x7f1234567000n);
  expect(view.getUint32(at.get("len")!, true)).toBe(48);
  expect(view.getUint32(at.get("uring_cmd_flags")!, true)).toBe(0);
  expect(at.get("cmd")).toBe(SQE_CMD * 4);
  expect([at.get("sqe"), at.get("cqe"), at.get("res")]).toEqual([
    SQE_WORDS * 4,
    CQE_WORDS * 4,
    CQE_RES * 4,
  ]);
});

testAbi(`a multishot command selects buffers of its group${why}`, () => {
  const at = layout();
  const { sqes, view } = used();
  prepCommand(sqes, SQE_WORDS, 0, 0xc0107527, 0, 0, 0);
  makeMultishot(sqes, SQE_WORDS, 3);
  skipSuccess(sqes, SQE_WORDS);
  expect(view.getUint8(at.get("opcode")!)).toBe(IORING_OP_URING_CMD);
  expect(view.getUint8(at.get("flags")!)).toBe(1 | (1 << 5) | (1 << 6));
  expect(view.getUint32(at.get("uring_cmd_flags")!, true)).toBe(2);
  expect(view.getUint16(at.get("buf_group")!, true)).toBe(3);
});

test("a Number of bytes falls into two halves", () => {
  const values = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 0x7f1234567000, 2 ** 52 - 1];
  for (const value of values) {
    const whole = (highHalf(value) >>> 0) * 2 ** 32 + (lowHalf(value) >>> 0);
    expect(whole).toBe(value);
  }
});

test("a prepared SQE keeps nothing of the one before, and touches no neighbour", () => {
  const { sqes } = used();
  prepRw(sqes, SQE_WORDS, 22, 1, 0, 0, 512, 0, 0, 0);
  for (const word of LAST_WORDS) expect(sqes[SQE_WORDS + word]).toBe(0);
  expect(sqes.subarray(0, SQE_WORDS).every((word) => word === -1)).toBe(true);
  expect(sqes.subarray(2 * SQE_WORDS).every((word) => word === -1)).toBe(true);
});
