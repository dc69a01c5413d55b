// hot
/** Getting work and returning it, one command a tag: FETCH_REQ and COMMIT_AND_FETCH_REQ. */

import {
  highHalf,
  lowHalf,
  prepCommand,
  type Ring,
  setUserData,
  skipSuccess,
  SQE_CMD,
} from "../../ffi/io_uring.ts";
import {
  IO_CMD_ADDR,
  IO_CMD_QID_TAG,
  IO_CMD_RESULT,
  IOD_NR_SECTORS,
  IOD_OP_FLAGS,
  IOD_START_SECTOR,
  IOD_WORDS,
  UBLK_IO_RES_NEED_GET_DATA,
  UBLK_IO_RES_OK,
  UBLK_U_IO_COMMIT_AND_FETCH_REQ,
  UBLK_U_IO_FETCH_REQ,
  UBLK_U_IO_NEED_GET_DATA,
  UBLK_U_IO_REGISTER_IO_BUF,
  UBLK_U_IO_UNREGISTER_IO_BUF,
} from "../../ffi/ublk_cmd.ts";
import type { QueueIo } from "./io.ts";
import { KIND_COMMAND, KIND_REGISTER, KIND_UNREGISTER, userMeta } from "./user_data.ts";

/** The char device is the first registered file of every queue's ring. */
export const CHAR_DEVICE = 0;
const SECTOR = 512;
const TWO_32_SECTORS = 2 ** 32 * SECTOR;
const OP_MASK = 0xff;

/** iods by queue id. The driver maps them read-only, so plain loads: an Atomics.load writes. */
export type Iods = readonly (Int32Array | undefined)[];

/** How commands travel. How bytes travel is the business of the QueueIo. */
export abstract class Commands {
  protected readonly ring: Ring;
  protected readonly ios: readonly QueueIo[];
  readonly #iods: Iods;
  /** By slot, two halves each: the address of its buffer, for a command to carry. */
  readonly #addresses: Int32Array;

  constructor(ring: Ring, ios: readonly QueueIo[], iods: Iods) {
    this.ring = ring;
    this.ios = ios;
    this.#iods = iods;
    this.#addresses = new Int32Array(2 * ios.length);
    for (let slot = 0; slot < ios.length; slot++) {
      this.#addresses[2 * slot] = lowHalf(ios[slot]!.commandAddress);
      this.#addresses[2 * slot + 1] = highHalf(ios[slot]!.commandAddress);
    }
  }

  /** Queues the first commands; they leave with the first turn. */
  abstract begin(): void;
  /** A command came back: how many requests it brought, or -errno (-ENODEV: the end). */
  abstract done(slot: number, res: number, flags: number): number;
  /** The slot of the request at `index` of those that `done` spoke of. */
  abstract arrived(index: number): number;
  /** `result`: bytes done, or -errno. */
  abstract commit(io: QueueIo, result: number): void;
  /** Queues what has been gathered in a turn. False when a submission has to come first. */
  abstract flush(): boolean;
  /**
   * There are results of which a completion will tell that the driver has them, or a flush; or
   * requests that are ours and have not arrived.
   */
  abstract holding(): boolean;

  /** The request that has arrived for this tag, out of its iod. */
  load(io: QueueIo): void {
    const iods = this.#iods[io.queueId]!;
    const iod = io.tag * IOD_WORDS;
    const opFlags = iods[iod + IOD_OP_FLAGS]!;
    const low = iods[iod + IOD_START_SECTOR]! >>> 0;
    const high = iods[iod + IOD_START_SECTOR + 1]! >>> 0;
    const length = (iods[iod + IOD_NR_SECTORS]! >>> 0) * SECTOR;
    const offset = high * TWO_32_SECTORS + low * SECTOR;
    io.begin(opFlags & OP_MASK, opFlags & ~OP_MASK, offset, length);
  }

  /** Puts the request's pages into the ring's buffer table, at the slot's index. */
  registerBuffer(io: QueueIo): void {
    const sqe = this.#queueForBuffer(io, UBLK_U_IO_REGISTER_IO_BUF);
    setUserData(this.ring.sqes, sqe, io.slot, userMeta(KIND_REGISTER, 0));
  }

  /** The request ends when this and its commit have arrived, in whichever order. */
  unregisterBuffer(io: QueueIo): void {
    const sqe = this.#queueForBuffer(io, UBLK_U_IO_UNREGISTER_IO_BUF);
    skipSuccess(this.ring.sqes, sqe);
    setUserData(this.ring.sqes, sqe, io.slot, userMeta(KIND_UNREGISTER, 0));
  }

  /** Commands about registered buffers have the index where others have the address. */
  #queueForBuffer(io: QueueIo, cmdOp: number): number {
    const sqe = this.#queue(io, cmdOp, 0, 0);
    this.ring.sqes[sqe + SQE_CMD + IO_CMD_ADDR] = io.slot;
    this.ring.sqes[sqe + SQE_CMD + IO_CMD_ADDR + 1] = 0;
    return sqe;
  }

  /** For the slot's tag and the slot's buffer. */
  protected queue(io: QueueIo, cmdOp: number, result: number, autoBuffer: number): void {
    const sqe = this.#queue(io, cmdOp, result, autoBuffer);
    const sqes = this.ring.sqes;
    sqes[sqe + SQE_CMD + IO_CMD_ADDR] = this.#addresses[2 * io.slot]!;
    sqes[sqe + SQE_CMD + IO_CMD_ADDR + 1] = this.#addresses[2 * io.slot + 1]!;
    setUserData(sqes, sqe, io.slot, userMeta(KIND_COMMAND, 0));
  }

  /** A struct ublksrv_io_cmd but for its address, in a place that is reserved for commands. */
  #queue(io: QueueIo, cmdOp: number, result: number, autoBuffer: number): number {
    const sqe = this.ring.nextSqe();
    const sqes = this.ring.sqes;
    prepCommand(sqes, sqe, CHAR_DEVICE, cmdOp, autoBuffer, 0, 0);
    sqes[sqe + SQE_CMD + IO_CMD_QID_TAG] = io.queueId | (io.tag << 16);
    sqes[sqe + SQE_CMD + IO_CMD_RESULT] = result;
    return sqe;
  }
}

export class TagCommands extends Commands {
  #slot = 0;
  /** By slot: a write whose data we have asked for. It is in our hands, and has not arrived yet. */
  readonly #asked: Uint8Array;
  #askedCount = 0;

  constructor(ring: Ring, ios: readonly QueueIo[], iods: Iods) {
    super(ring, ios, iods);
    this.#asked = new Uint8Array(ios.length);
  }

  begin(): void {
    const ios = this.ios;
    for (let slot = 0; slot < ios.length; slot++) {
      const io = ios[slot]!;
      this.queue(io, UBLK_U_IO_FETCH_REQ, 0, io.autoBuffer);
    }
  }

  done(slot: number, res: number): number {
    this.#slot = slot;
    this.#askedCount -= this.#asked[slot]!;
    this.#asked[slot] = 0;
    if (res === UBLK_IO_RES_OK) return 1;
    if (res !== UBLK_IO_RES_NEED_GET_DATA) return res;
    this.#asked[slot] = 1;
    this.#askedCount++;
    const io = this.ios[slot]!;
    this.queue(io, UBLK_U_IO_NEED_GET_DATA, 0, 0);
    return 0;
  }

  arrived(): number {
    return this.#slot;
  }

  commit(io: QueueIo, result: number): void {
    const cmdOp = UBLK_U_IO_COMMIT_AND_FETCH_REQ;
    this.queue(io, cmdOp, result, io.autoBuffer);
  }

  flush(): boolean {
    return true; // each command left on its own
  }

  holding(): boolean {
    return this.#askedCount > 0;
  }
}
