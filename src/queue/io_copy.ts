// hot
/** Copy mode: the driver copies between the request's pages and a buffer of ours. */

import { memcpy, memset } from "../../ffi/libc.ts";
import { UBLK_IO_OP_WRITE } from "../../ffi/ublk_cmd.ts";
import { type IoShared, QueueIo } from "./io.ts";

export class CopyIo extends QueueIo {
  readonly commandAddress: number;
  /** From here on the buffer is known to hold zeros, as fresh memory does. */
  #zeroFrom = 0;

  constructor(slot: number, queueId: number, tag: number, shared: IoShared, address: number) {
    super(slot, queueId, tag, shared);
    this.commandAddress = address;
  }

  override begin(op: number, flags: number, offset: number, length: number): void {
    super.begin(op, flags, offset, length);
    if (op === UBLK_IO_OP_WRITE && length > this.#zeroFrom) this.#zeroFrom = length;
  }

  readFile(file: number, fileOffset: number, at: number, length: number): void {
    if (at + length > this.#zeroFrom) this.#zeroFrom = at + length;
    this.queueRead(file, fileOffset, this.commandAddress + at, length);
  }

  writeFile(file: number, fileOffset: number, at: number, length: number, durable: boolean): void {
    this.queueWrite(file, fileOffset, this.commandAddress + at, length, durable);
  }

  zeroBytes(at: number, length: number): void {
    if (at >= this.#zeroFrom) return;
    memset(this.commandAddress + at, 0, length);
    if (at === 0 && length >= this.#zeroFrom) this.#zeroFrom = 0;
  }

  putBytes(at: number, address: number, length: number): void {
    if (at + length > this.#zeroFrom) this.#zeroFrom = at + length;
    memcpy(this.commandAddress + at, address, length);
  }

  getBytes(at: number, address: number, length: number): void {
    memcpy(address, this.commandAddress + at, length);
  }

  copyInstead(): boolean {
    return true;
  }
}
