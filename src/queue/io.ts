// hot
/**
 * A request in a server thread: its fields, its pieces in flight, and the meaning of user_data.
 *
 * user_data: the low word is the slot; the high word is the kind (4 bits) and the bytes expected
 * (28 bits; a request is 32 MiB at the most). Nobody else writes or reads it.
 *
 * A piece that came back short, or that was told to try again, makes the whole request go once
 * more in careful steps: one piece at a time, each carried on to its end.
 */

import { EAGAIN, EINTR, EINVAL, EIO } from "../../ffi/errno.ts";
import {
  IORING_FSYNC_DATASYNC,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_WRITE,
  prepRw,
  type Ring,
  RWF_DSYNC,
  setUserData,
} from "../../ffi/io_uring.ts";
import { type Coroutine, type Io, PIECES_MAX, ZEROES_MAX } from "../target/target.ts";

export const KIND_COMMAND = 0;
export const KIND_TARGET = 1;
const KIND_SHIFT = 28;
const EXPECTED_MASK = (1 << KIND_SHIFT) - 1;

export function kindOf(meta: number): number {
  return meta >>> KIND_SHIFT;
}

export function expectedOf(meta: number): number {
  return meta & EXPECTED_MASK;
}

/** include/uapi/linux/falloc.h */
const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_ZERO_RANGE = 0x10;

/** How often the same bytes may be told to try again before that is an error. */
const TRIES_MAX = 100;

/** A piece is an SQE that can be made again: these members, in this order. */
const OPCODE = 0;
const FILE = 1;
const FILE_OFFSET = 2;
const ADDRESS = 3;
const LENGTH = 4;
const OP_FLAGS = 5;
const PIECE_WORDS = 6;

/** What the requests of one thread share. */
export interface IoShared {
  ring: Ring;
  /** Places in the submission queue that only commits may use: one a slot. */
  reserved: number;
  /** `ZEROES_MAX` bytes of zeros that nobody writes to. */
  zeroes: number;
}

export abstract class QueueIo implements Io {
  readonly slot: number;
  readonly queueId: number;
  readonly tag: number;
  op = 0;
  flags = 0;
  offset = 0;
  length = 0;
  /** SQEs of ours that the kernel holds. */
  inFlight = 0;
  /** The first error of the pieces in flight: 0 or -errno. */
  failure = 0;
  coroutine: Coroutine | null = null;
  readonly #ring: Ring;
  readonly #reserved: number;
  readonly #zeroes: number;
  readonly #pieces = new Float64Array(PIECES_MAX * PIECE_WORDS);
  #pieceCount = 0;
  #short = false;
  /** The piece that the careful way has come to; -1 on the fast way. */
  #step = -1;
  #tries = 0;

  constructor(slot: number, queueId: number, tag: number, shared: IoShared) {
    this.slot = slot;
    this.queueId = queueId;
    this.tag = tag;
    this.#ring = shared.ring;
    this.#reserved = shared.reserved;
    this.#zeroes = shared.zeroes;
  }

  /** What a command for this tag carries in its address member. */
  abstract readonly commandAddress: number;
  abstract readFile(file: number, fileOffset: number, at: number, length: number): void;
  abstract writeFile(
    file: number,
    fileOffset: number,
    at: number,
    length: number,
    durable: boolean,
  ): void;
  abstract zeroBytes(at: number, length: number): void;
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

  /** Ready for further verbs: nothing is in flight, nothing has failed. */
  restart(): void {
    this.failure = 0;
    this.#pieceCount = 0;
    this.#short = false;
    this.#step = -1;
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
    if (length > ZEROES_MAX) this.failure = -EINVAL;
    else this.queueWrite(file, fileOffset, this.#zeroes, length, false);
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

  protected queuePiece(
    opcode: number,
    file: number,
    fileOffset: number,
    address: number,
    length: number,
    opFlags: number,
  ): void {
    if (this.#pieceCount === PIECES_MAX) {
      this.failure = -EINVAL;
      return;
    }
    const pieces = this.#pieces;
    const at = this.#pieceCount++ * PIECE_WORDS;
    pieces[at + OPCODE] = opcode;
    pieces[at + FILE] = file;
    pieces[at + FILE_OFFSET] = fileOffset;
    pieces[at + ADDRESS] = address;
    pieces[at + LENGTH] = length;
    pieces[at + OP_FLAGS] = opFlags;
    this.#submitPiece(at);
  }

  #submitPiece(at: number): void {
    const sqe = this.#ring.nextSqeKeeping(this.#reserved);
    if (sqe < 0) {
      if (this.failure === 0) this.failure = -EAGAIN;
      return;
    }
    const sqes = this.#ring.sqes;
    const pieces = this.#pieces;
    const opcode = pieces[at + OPCODE]!;
    const length = pieces[at + LENGTH]!;
    prepRw(
      sqes,
      sqe,
      opcode,
      pieces[at + FILE]!,
      pieces[at + FILE_OFFSET]!,
      pieces[at + ADDRESS]!,
      length,
      pieces[at + OP_FLAGS]!,
    );
    const moves = opcode === IORING_OP_READ || opcode === IORING_OP_WRITE;
    setUserData(sqes, sqe, this.slot, (KIND_TARGET << KIND_SHIFT) | (moves ? length : 0));
    this.inFlight++;
  }

  /** One piece came back. True when no other is in flight and none is to be sent again. */
  pieceDone(expected: number, res: number): boolean {
    this.inFlight--;
    if (this.#step >= 0) this.#carefulDone(expected, res);
    else if (res !== expected) this.#fastFellShort(res);
    if (this.inFlight > 0) return false;
    if (this.#short && this.failure === 0 && this.#step < this.#pieceCount) this.#sendAgain();
    return this.inFlight === 0;
  }

  #fastFellShort(res: number): void {
    if (res >= 0 || res === -EAGAIN || res === -EINTR) this.#short = true;
    else if (this.failure === 0) this.failure = res;
  }

  #sendAgain(): void {
    if (this.#step < 0) {
      this.#step = 0;
      this.#tries = 0;
    }
    this.#submitPiece(this.#step * PIECE_WORDS);
  }

  /**
   * For example 8 KiB wanted and 512 bytes came: the piece becomes the 7680 bytes behind them.
   * 0 bytes is the end of the file, where there should be a disk: EIO, never made-up zeros.
   */
  #carefulDone(expected: number, res: number): void {
    if (res === expected) {
      this.#step++;
      this.#tries = 0;
    } else if (res > 0) {
      const pieces = this.#pieces;
      const at = this.#step * PIECE_WORDS;
      pieces[at + FILE_OFFSET]! += res;
      pieces[at + ADDRESS]! += res;
      pieces[at + LENGTH]! -= res;
      this.#tries = 0;
    } else if (res === 0) {
      this.failure = -EIO;
    } else if ((res !== -EAGAIN && res !== -EINTR) || ++this.#tries > TRIES_MAX) {
      this.failure = res;
    }
  }
}
