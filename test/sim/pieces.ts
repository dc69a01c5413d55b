/** Handlers for stories: requests in several pieces at once, and coroutines. */

import {
  DATA_FILE,
  type Handlers,
  type Io,
  OP_FLUSH,
  OP_READ,
  OP_WRITE,
  PIECES_MAX,
  QUEUED,
  SLOW,
} from "../../src/target/target.ts";

/** Every request in `count` pieces side by side, as a target over several clusters has it. */
export function inPieces(count = PIECES_MAX): Handlers {
  return {
    queueIo(io) {
      if (io.op === OP_FLUSH) {
        io.syncFile(DATA_FILE);
        return QUEUED;
      }
      if (io.op !== OP_READ && io.op !== OP_WRITE) {
        io.punchHole(DATA_FILE, io.offset, io.length);
        return QUEUED;
      }
      const length = Math.ceil(io.length / count / 512) * 512;
      for (let at = 0; at < io.length; at += length) {
        transfer(io, at, Math.min(length, io.length - at));
      }
      return QUEUED;
    },
  };
}

/** As `inPieces`, but one piece after the other, waiting in between. */
export function inTurns(): Handlers {
  const pieces = inPieces();
  return {
    queueIo: (io) => (io.op === OP_READ || io.op === OP_WRITE ? SLOW : pieces.queueIo(io)),
    *runIo(io) {
      for (let at = 0; at < io.length; at += 4096) {
        transfer(io, at, Math.min(4096, io.length - at));
        const failure = yield;
        if (failure < 0) return failure;
      }
      return io.length;
    },
  };
}

function transfer(io: Io, at: number, length: number): void {
  if (io.op === OP_READ) io.readFile(DATA_FILE, io.offset + at, at, length);
  else io.writeFile(DATA_FILE, io.offset + at, at, length, false);
}
