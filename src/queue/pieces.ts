// hot
/**
 * The pieces of a request: its SQEs in flight, and what becomes of those that did too little.
 *
 * A piece that came back short, or that was told to try again, makes the whole request go once
 * more in careful steps: one piece at a time, each carried on to its end.
 */

import { EAGAIN, EINTR, EINVAL, EIO } from "../../ffi/errno.ts";
import {
  highHalf,
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
import { PIECES_MAX } from "../target/target.ts";
import { KIND_TARGET, KIND_WAIT, userMeta } from "./user_data.ts";
import type { WaitTimes } from "./wait_times.ts";

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

export interface PiecesShared {
  ring: Ring;
  /** Places in the submission queue that only commands may use; `assemble` counts them. */
  reserved: number;
  waits: WaitTimes;
}

export class Pieces {
  readonly slot: number;
  /** SQEs of ours that the kernel holds. */
  inFlight = 0;
  /** The first error of the pieces in flight: 0 or -errno. */
  failure = 0;
  readonly #ring: Ring;
  readonly #reserved: number;
  readonly #waits: WaitTimes;
  readonly #pieces = new Int32Array(PIECES_MAX * CHAIN_PIECES * PIECE_WORDS);
  #pieceCount = 0;
  #short = false;
  /** The piece that the careful way has come to; -1 on the fast way. */
  #step = -1;
  #tries = 0;

  constructor(slot: number, shared: PiecesShared) {
    this.slot = slot;
    this.#ring = shared.ring;
    this.#reserved = shared.reserved;
    this.#waits = shared.waits;
  }

  /** Ready for further verbs: nothing is in flight, nothing has failed. */
  restart(): void {
    this.failure = 0;
    this.#pieceCount = 0;
    this.#short = false;
    this.#step = -1;
  }

  /** No piece: it transfers nothing, is never short and never sent again. */
  wait(microseconds: number): void {
    const sqe = this.#ring.nextSqeKeeping(this.#reserved);
    if (sqe < 0) {
      this.fail(-EAGAIN);
      return;
    }
    const sqes = this.#ring.sqes;
    const timespec = this.#waits.set(this.slot, microseconds);
    prepRw(sqes, sqe, IORING_OP_TIMEOUT, 0, 0, timespec, 1, 0, 0, 0);
    setUserData(sqes, sqe, this.slot, userMeta(KIND_WAIT, 0));
    this.inFlight++;
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
      this.fail(-EAGAIN);
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
      this.fail(-EINVAL);
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
      this.fail(-EAGAIN);
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

  protected fail(failure: number): void {
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
    else this.fail(res);
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
