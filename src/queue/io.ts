// hot
/**
 * A request in a server thread: its fields, and its pieces in flight.
 *
 * A piece that came back short, or that was told to try again, makes the whole request go once
 * more in careful steps: one piece at a time, each carried on to its end.
 */

import { EAGAIN, EINTR, EINVAL, EIO } from "../../ffi/errno.ts";
import {
  highHalf,
  IORING_FSYNC_DATASYNC,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_READ_FIXED,
  IORING_OP_TIMEOUT,
  IORING_OP_WRITE,
  IORING_OP_WRITE_FIXED,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_IO_LINK,
  lowHalf,
  prepRw,
  prepRwWords,
  type Ring,
  RWF_DSYNC,
  setUserData,
  SQE_ADDR,
  SQE_OFF,
} from "../../ffi/io_uring.ts";
import { type Coroutine, type Io, PIECES_MAX, ZEROES_MAX } from "../target/target.ts";
import { KIND_TARGET, KIND_WAIT, userMeta } from "./user_data.ts";
import type { WaitTimes } from "./wait_times.ts";

/** include/uapi/linux/falloc.h */
const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_ZERO_RANGE = 0x10;

/** How often the same bytes may be told to try again before that is an error. */
const TRIES_MAX = 100;

/**
 * A piece is an SQE that can be made again: these members, in this order, the 64-bit ones as two
 * halves: a Number above 2^31 is converted by a call into the runtime.
 */
const OPCODE = 0;
const FILE = 1;
const FILE_OFFSET = 2;
const ADDRESS = 4;
const LENGTH = 6;
const OP_FLAGS = 7;
const PIECE_WORDS = 8;
/** Two pieces of which the second waits for the first; one completion speaks for both. */
const CHAIN_PIECES = 2;
const CHAIN_FLAGS = IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;

/** What the requests of one thread share. */
export interface IoShared {
  ring: Ring;
  /** Places in the submission queue that only commits may use: one a slot. */
  reserved: number;
  /** Zeros that nobody writes to: `ZEROES_MAX` bytes, or the largest request if that is more. */
  zeroes: number;
  /** The registered file that is /dev/zero. */
  zeroFile: number;
  waits: WaitTimes;
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
  readonly #waits: WaitTimes;
  protected readonly zeroes: number;
  readonly #pieces = new Int32Array(PIECES_MAX * CHAIN_PIECES * PIECE_WORDS);
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
    this.zeroes = shared.zeroes;
    this.#waits = shared.waits;
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
    if (length > ZEROES_MAX) this.#fail(-EINVAL);
    else this.queueWrite(file, fileOffset, this.zeroes, length, false);
  }

  /** No piece: it transfers nothing, is never short and never sent again. */
  wait(microseconds: number): void {
    const sqe = this.#ring.nextSqeKeeping(this.#reserved);
    if (sqe < 0) {
      this.#fail(-EAGAIN);
      return;
    }
    const sqes = this.#ring.sqes;
    const timespec = this.#waits.set(this.slot, microseconds);
    prepRw(sqes, sqe, IORING_OP_TIMEOUT, 0, 0, timespec, 1, 0, 0, 0);
    setUserData(sqes, sqe, this.slot, userMeta(KIND_WAIT, 0));
    this.inFlight++;
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

  /** One operation that completes by itself. */
  protected queuePiece(
    opcode: number,
    file: number,
    fileOffset: number,
    address: number,
    length: number,
    opFlags: number,
  ): void {
    const at = this.#addPiece(opcode, file, fileOffset, address, length, opFlags);
    if (at >= 0) this.#submitPiece(at, 0);
  }

  /**
   * Bytes from one file to another by way of `address`. The two must not be torn apart by a
   * submission, so there is room for both or for none.
   */
  protected queueChain(
    fromFile: number,
    fromOffset: number,
    toFile: number,
    toOffset: number,
    address: number,
    length: number,
    durable: boolean,
  ): void {
    const opFlags = durable ? RWF_DSYNC : 0;
    const first = this.#addPiece(IORING_OP_READ, fromFile, fromOffset, address, length, 0);
    const last = this.#addPiece(IORING_OP_WRITE, toFile, toOffset, address, length, opFlags);
    if (last < 0) return;
    if (!this.#ring.roomFor(CHAIN_PIECES, this.#reserved)) {
      this.#fail(-EAGAIN);
      return;
    }
    this.#submitPiece(first, CHAIN_FLAGS);
    this.#submitPiece(last, 0);
    this.inFlight--; // one completion for the two
  }

  #addPiece(
    opcode: number,
    file: number,
    fileOffset: number,
    address: number,
    length: number,
    opFlags: number,
  ): number {
    if (this.#pieceCount === PIECES_MAX * CHAIN_PIECES) {
      this.#fail(-EINVAL);
      return -1;
    }
    const pieces = this.#pieces;
    const at = this.#pieceCount++ * PIECE_WORDS;
    pieces[at + OPCODE] = opcode;
    pieces[at + FILE] = file;
    pieces[at + FILE_OFFSET] = lowHalf(fileOffset);
    pieces[at + FILE_OFFSET + 1] = highHalf(fileOffset);
    pieces[at + ADDRESS] = lowHalf(address);
    pieces[at + ADDRESS + 1] = highHalf(address);
    pieces[at + LENGTH] = length;
    pieces[at + OP_FLAGS] = opFlags;
    return at;
  }

  #submitPiece(at: number, sqeFlags: number): void {
    const sqe = this.#ring.nextSqeKeeping(this.#reserved);
    if (sqe < 0) {
      this.#fail(-EAGAIN);
      return;
    }
    const sqes = this.#ring.sqes;
    const pieces = this.#pieces;
    const opcode = pieces[at + OPCODE]!;
    const length = pieces[at + LENGTH]!;
    sqes[sqe + SQE_OFF] = pieces[at + FILE_OFFSET]!;
    sqes[sqe + SQE_OFF + 1] = pieces[at + FILE_OFFSET + 1]!;
    sqes[sqe + SQE_ADDR] = pieces[at + ADDRESS]!;
    sqes[sqe + SQE_ADDR + 1] = pieces[at + ADDRESS + 1]!;
    prepRwWords(
      sqes,
      sqe,
      opcode,
      pieces[at + FILE]!,
      length,
      pieces[at + OP_FLAGS]!,
      isFixed(opcode) ? this.slot : 0, // the index of its registered buffer; others refuse one
      sqeFlags,
    );
    setUserData(sqes, sqe, this.slot, userMeta(KIND_TARGET, movesBytes(opcode) ? length : 0));
    this.inFlight++;
  }

  #fail(failure: number): void {
    if (this.failure === 0) this.failure = failure;
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
    else this.#fail(res);
  }

  #sendAgain(): void {
    if (this.#step < 0) {
      this.#step = 0;
      this.#tries = 0;
    }
    this.#submitPiece(this.#step * PIECE_WORDS, 0);
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
      moveOn(pieces, at + FILE_OFFSET, res);
      moveOn(pieces, at + ADDRESS, res);
      pieces[at + LENGTH]! -= res;
      this.#tries = 0;
    } else if (res === 0) {
      this.failure = -EIO;
    } else if ((res !== -EAGAIN && res !== -EINTR) || ++this.#tries > TRIES_MAX) {
      this.failure = res;
    }
  }
}

/** Adds to a number that is kept as two halves. */
function moveOn(words: Int32Array, at: number, bytes: number): void {
  const low = (words[at]! >>> 0) + bytes;
  words[at] = lowHalf(low);
  words[at + 1]! += highHalf(low);
}

function isFixed(opcode: number): boolean {
  return opcode === IORING_OP_READ_FIXED || opcode === IORING_OP_WRITE_FIXED;
}

function movesBytes(opcode: number): boolean {
  return opcode === IORING_OP_READ || opcode === IORING_OP_WRITE || isFixed(opcode);
}
