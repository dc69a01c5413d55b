// hot
/** User copy: bytes go by pread and pwrite on the char device, through a buffer of ours. */

import { IORING_OP_READ, IORING_OP_WRITE } from "../../ffi/io_uring.ts";
import { UBLK_QID_OFF, UBLK_TAG_OFF, UBLKSRV_IO_BUF_OFFSET } from "../../ffi/ublk_cmd.ts";
import { CHAR_DEVICE } from "./commands.ts";
import { type IoShared, QueueIo } from "./io.ts";

export class UserCopyIo extends QueueIo {
  readonly commandAddress: number = 0;
  /** Where the char device has this request's bytes. */
  readonly #position: number;
  readonly #bounce: number;

  /** `bounce`: as many bytes as the largest request. */
  constructor(slot: number, queueId: number, tag: number, shared: IoShared, bounce: number) {
    super(slot, queueId, tag, shared);
    this.#position = UBLKSRV_IO_BUF_OFFSET + queueId * 2 ** UBLK_QID_OFF + tag * 2 ** UBLK_TAG_OFF;
    this.#bounce = bounce;
  }

  readFile(file: number, fileOffset: number, at: number, length: number): void {
    const bounce = this.#bounce + at;
    this.queueChain(file, fileOffset, CHAR_DEVICE, this.#position + at, bounce, length, false);
  }

  writeFile(file: number, fileOffset: number, at: number, length: number, durable: boolean): void {
    const bounce = this.#bounce + at;
    this.queueChain(CHAR_DEVICE, this.#position + at, file, fileOffset, bounce, length, durable);
  }

  zeroBytes(at: number, length: number): void {
    this.putBytes(at, this.zeroes, length);
  }

  putBytes(at: number, address: number, length: number): void {
    this.queuePiece(IORING_OP_WRITE, CHAR_DEVICE, this.#position + at, address, length, 0);
  }

  getBytes(at: number, address: number, length: number): void {
    this.queuePiece(IORING_OP_READ, CHAR_DEVICE, this.#position + at, address, length, 0);
  }

  copyInstead(): boolean {
    return true;
  }
}
