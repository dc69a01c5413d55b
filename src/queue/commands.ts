// hot
/** Getting work and returning it, one command a tag: FETCH_REQ and COMMIT_AND_FETCH_REQ. */

import { prepCommand, type Ring, setUserData, SQE_CMD } from "../../ffi/io_uring.ts";
import {
  IO_CMD_ADDR,
  IO_CMD_QID_TAG,
  IO_CMD_RESULT,
  IOD_NR_SECTORS,
  IOD_OP_FLAGS,
  IOD_START_SECTOR,
  IOD_WORDS,
  UBLK_U_IO_COMMIT_AND_FETCH_REQ,
  UBLK_U_IO_FETCH_REQ,
} from "../../ffi/ublk_cmd.ts";
import { KIND_COMMAND, type QueueIo } from "./io.ts";

/** The char device is the first registered file of every queue's ring. */
const CHAR_DEVICE = 0;
const SECTOR = 512;
const TWO_32 = 2 ** 32;
const OP_MASK = 0xff;

export class TagCommands {
  readonly #ring: Ring;
  /** iods by queue id. The driver maps them read-only, so plain loads: an Atomics.load writes. */
  readonly #iods: readonly (Int32Array | undefined)[];

  constructor(ring: Ring, iods: readonly (Int32Array | undefined)[]) {
    this.#ring = ring;
    this.#iods = iods;
  }

  fetch(io: QueueIo): void {
    this.#queue(io, UBLK_U_IO_FETCH_REQ, 0);
  }

  /** `result`: bytes done, or -errno. */
  commit(io: QueueIo, result: number): void {
    this.#queue(io, UBLK_U_IO_COMMIT_AND_FETCH_REQ, result);
  }

  /** The request that has arrived for this tag, out of its iod. */
  load(io: QueueIo): void {
    const iods = this.#iods[io.queueId]!;
    const iod = io.tag * IOD_WORDS;
    const opFlags = iods[iod + IOD_OP_FLAGS]!;
    const low = iods[iod + IOD_START_SECTOR]! >>> 0;
    const high = iods[iod + IOD_START_SECTOR + 1]! >>> 0;
    const length = (iods[iod + IOD_NR_SECTORS]! >>> 0) * SECTOR;
    io.begin(opFlags & OP_MASK, opFlags & ~OP_MASK, (high * TWO_32 + low) * SECTOR, length);
  }

  #queue(io: QueueIo, cmdOp: number, result: number): void {
    // A place is reserved for each slot's command, and a slot has one at a time.
    const sqe = this.#ring.nextSqe();
    const sqes = this.#ring.sqes;
    prepCommand(sqes, sqe, CHAR_DEVICE, cmdOp);
    sqes[sqe + SQE_CMD + IO_CMD_QID_TAG] = io.queueId | (io.tag << 16);
    sqes[sqe + SQE_CMD + IO_CMD_RESULT] = result;
    sqes[sqe + SQE_CMD + IO_CMD_ADDR] = io.commandAddress;
    sqes[sqe + SQE_CMD + IO_CMD_ADDR + 1] = io.commandAddress / TWO_32;
    setUserData(sqes, sqe, io.slot, KIND_COMMAND);
  }
}
