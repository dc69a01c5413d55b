// hot
/**
 * Zero copy: the request's own pages are buffer `slot` of the ring, and file IO works on them.
 *
 * They get there with the command (AUTO_BUF_REG) or by a command of their own, which also serves
 * where the automatic way failed (NEED_REG_BUF). A request that is not worth that is copied.
 */

import { IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED, RWF_DSYNC } from "../../ffi/io_uring.ts";
import {
  UBLK_AUTO_BUF_REG_FALLBACK,
  UBLK_AUTO_BUF_REG_FLAGS_SHIFT,
  UBLK_IO_F_NEED_REG_BUF,
  UBLK_IO_OP_READ,
  UBLK_IO_OP_WRITE,
} from "../../ffi/ublk_cmd.ts";
import type { IoShared } from "./io.ts";
import { UserCopyIo } from "./io_user_copy.ts";

/** Which requests are registered, and how. */
export interface Registration {
  /** The driver does it when it delivers the request. */
  auto: boolean;
  /** Without `auto`: requests of this many bytes and more. */
  zeroCopyMin: number;
  /** The device also has user copy, for those that are not. */
  userCopy: boolean;
}

export class RegisteredIo extends UserCopyIo {
  override readonly autoBuffer: number;
  readonly #auto: boolean;
  readonly #zeroCopyMin: number;
  readonly #userCopy: boolean;
  readonly #zeroFile: number;
  #registered = false;

  constructor(
    slot: number,
    queueId: number,
    tag: number,
    shared: IoShared,
    bounce: number,
    how: Registration,
  ) {
    super(slot, queueId, tag, shared, bounce);
    const fallback = UBLK_AUTO_BUF_REG_FALLBACK << UBLK_AUTO_BUF_REG_FLAGS_SHIFT;
    this.autoBuffer = how.auto ? slot | fallback : 0;
    this.#auto = how.auto;
    this.#zeroCopyMin = how.zeroCopyMin;
    this.#userCopy = how.userCopy;
    this.#zeroFile = shared.zeroFile;
  }

  override begin(op: number, flags: number, offset: number, length: number): void {
    super.begin(op, flags, offset, length);
    const hasData = op === UBLK_IO_OP_READ || op === UBLK_IO_OP_WRITE;
    const worthIt = this.#auto
      ? (flags & UBLK_IO_F_NEED_REG_BUF) !== 0
      : length >= this.#zeroCopyMin;
    this.mustRegister = hasData && worthIt;
    this.mustUnregister = false;
    this.#registered = hasData && (this.#auto || worthIt);
  }

  override copyInstead(): boolean {
    this.#registered = false;
    return this.#userCopy;
  }

  override readFile(file: number, fileOffset: number, at: number, length: number): void {
    if (!this.#registered) super.readFile(file, fileOffset, at, length);
    else this.queuePiece(IORING_OP_READ_FIXED, file, fileOffset, at, length, 0);
  }

  override writeFile(
    file: number,
    fileOffset: number,
    at: number,
    length: number,
    durable: boolean,
  ): void {
    if (!this.#registered) super.writeFile(file, fileOffset, at, length, durable);
    else {
      const opFlags = durable ? RWF_DSYNC : 0;
      this.queuePiece(IORING_OP_WRITE_FIXED, file, fileOffset, at, length, opFlags);
    }
  }

  override zeroBytes(at: number, length: number): void {
    if (!this.#registered) super.zeroBytes(at, length);
    else this.queuePiece(IORING_OP_READ_FIXED, this.#zeroFile, 0, at, length, 0);
  }
}
