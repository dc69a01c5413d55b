// hot
/** A request in a server thread: its fields, and the verbs that are the same in every mode. */

import { EINVAL } from "../../ffi/errno.ts";
import {
  IORING_FSYNC_DATASYNC,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_WRITE,
  RWF_DSYNC,
} from "../../ffi/io_uring.ts";
import { type Coroutine, type Io, ZEROES_MAX } from "../target/target.ts";
import { Pieces, type PiecesShared } from "./pieces.ts";

/** include/uapi/linux/falloc.h */
const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_ZERO_RANGE = 0x10;

/** What the requests of one thread share. */
export interface IoShared extends PiecesShared {
  /** Zeros that nobody writes to: `ZEROES_MAX` bytes, or the largest request if that is more. */
  zeroes: number;
  /** The registered file that is /dev/zero. */
  zeroFile: number;
}

export abstract class QueueIo extends Pieces implements Io {
  readonly queueId: number;
  readonly tag: number;
  op = 0;
  flags = 0;
  offset = 0;
  length = 0;
  coroutine: Coroutine | null = null;
  protected readonly zeroes: number;

  constructor(slot: number, queueId: number, tag: number, shared: IoShared) {
    super(slot, shared);
    this.queueId = queueId;
    this.tag = tag;
    this.zeroes = shared.zeroes;
  }

  /** What a command for this tag carries in its address member; 0 where no buffer is copied. */
  abstract readonly commandAddress: number;
  /** struct ublk_auto_buf_reg for the address of a command's SQE; 0 where nothing registers. */
  readonly autoBuffer: number = 0;
  /** The buffer has to be registered before the target sees the request. */
  mustRegister = false;
  /** And is to be unregistered with its commit. */
  mustUnregister = false;
  abstract readFile(file: number, fileOffset: number, at: number, length: number): void;
  abstract writeFile(
    file: number,
    fileOffset: number,
    at: number,
    length: number,
    durable: boolean,
  ): void;
  abstract zeroBytes(at: number, length: number): void;
  /** Registration failed: true when this request's bytes can be copied all the same. */
  abstract copyInstead(): boolean;
  abstract putBytes(at: number, address: number, length: number): void;
  abstract getBytes(at: number, address: number, length: number): void;

  /** A request has arrived in this slot. */
  begin(op: number, flags: number, offset: number, length: number): void {
    this.op = op;
    this.flags = flags;
    this.offset = offset;
    this.length = length;
    this.coroutine = null;
    this.restart();
  }

  syncFile(file: number): void {
    this.queuePiece(IORING_OP_FSYNC, file, 0, 0, 0, IORING_FSYNC_DATASYNC);
  }

  punchHole(file: number, fileOffset: number, length: number): void {
    this.#queueFallocate(file, fileOffset, length, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  }

  zeroRange(file: number, fileOffset: number, length: number): void {
    this.#queueFallocate(file, fileOffset, length, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
  }

  readMeta(file: number, fileOffset: number, address: number, length: number): void {
    this.queueRead(file, fileOffset, address, length);
  }

  writeMeta(file: number, fileOffset: number, address: number, length: number): void {
    this.queueWrite(file, fileOffset, address, length, false);
  }

  writeZeroes(file: number, fileOffset: number, length: number): void {
    if (length > ZEROES_MAX) this.fail(-EINVAL);
    else this.queueWrite(file, fileOffset, this.zeroes, length, false);
  }

  /** fallocate(2) has its length where others have the address, and its mode as length. */
  #queueFallocate(file: number, fileOffset: number, length: number, mode: number): void {
    this.queuePiece(IORING_OP_FALLOCATE, file, fileOffset, length, mode, 0);
  }

  protected queueRead(file: number, fileOffset: number, address: number, length: number): void {
    this.queuePiece(IORING_OP_READ, file, fileOffset, address, length, 0);
  }

  protected queueWrite(
    file: number,
    fileOffset: number,
    address: number,
    length: number,
    durable: boolean,
  ): void {
    const opFlags = durable ? RWF_DSYNC : 0;
    this.queuePiece(IORING_OP_WRITE, file, fileOffset, address, length, opFlags);
  }
}
