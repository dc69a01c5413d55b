/** A submission as the kernel reads it: struct io_uring_sqe of include/uapi/linux/io_uring.h. */

import type { Pages } from "./buffers.ts";

export interface Sqe {
  opcode: number;
  flags: number;
  ioprio: number;
  file: number;
  offset: number;
  address: number;
  length: number;
  opFlags: number;
  /** user_data, low and high word. */
  slot: number;
  meta: number;
  bufIndex: number;
  personality: number;
  fileIndex: number;
  /** cmd_op and __pad1 share a place with the offset. */
  cmdOp: number;
  pad: number;
  /** Of READ_FIXED and WRITE_FIXED, once the ring has looked. */
  pages: Pages | undefined;
  /** The command area; of a read or write, its attributes. */
  command: DataView;
}

const COMMAND_AT = 48;
const COMMAND_SIZE = 16;

export function readSqe(words: Int32Array, first: number): Sqe {
  const view = new DataView(words.buffer, words.byteOffset + first * 4, 64);
  const command = new Uint8Array(COMMAND_SIZE);
  command.set(new Uint8Array(view.buffer, view.byteOffset + COMMAND_AT, COMMAND_SIZE));
  return {
    opcode: view.getUint8(0),
    flags: view.getUint8(1),
    ioprio: view.getUint16(2, true),
    file: view.getInt32(4, true),
    offset: Number(view.getBigUint64(8, true)),
    cmdOp: view.getUint32(8, true),
    pad: view.getUint32(12, true),
    address: Number(view.getBigUint64(16, true)),
    length: view.getUint32(24, true),
    opFlags: view.getUint32(28, true),
    slot: view.getUint32(32, true),
    meta: view.getUint32(36, true),
    bufIndex: view.getUint16(40, true),
    personality: view.getUint16(42, true),
    fileIndex: view.getUint32(44, true),
    pages: undefined,
    command: new DataView(command.buffer),
  };
}
