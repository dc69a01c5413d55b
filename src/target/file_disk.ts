/** A disk whose bytes are those of a file, from some offset on. */

import type { BackingFile } from "./backing_file.ts";
import {
  type Coroutine,
  DATA_FILE,
  type Disk,
  FLAG_FUA,
  FLAG_NOUNMAP,
  type Handlers,
  type Io,
  OP_DISCARD,
  OP_FLUSH,
  OP_READ,
  OP_WRITE,
  OP_WRITE_ZEROES,
  QUEUED,
  SLOW,
  UNSUPPORTED,
  ZEROES_MAX,
} from "./target.ts";

export function fileDisk(file: BackingFile, readOnly: boolean, report: Disk["report"]): Disk {
  return {
    size: file.size,
    blockBits: file.blockBits,
    physicalBits: file.physicalBits,
    readOnly,
    rotational: file.rotational,
    files: [file.fd],
    flush: true,
    fua: true,
    discardGranularity: file.discardGranularity,
    writeZeroes: file.discardGranularity > 0,
    touchesBytes: false,
    memoryAlignment: file.memoryAlignment,
    segments: file.segments,
    threads: "any",
    report,
  };
}

/** `start`: where the disk begins in the file, in bytes. */
export function fileHandlers(start: number): Handlers & Required<Pick<Handlers, "runIo">> {
  return {
    queueIo(io) {
      switch (io.op) {
        case OP_READ:
          io.readFile(DATA_FILE, start + io.offset, 0, io.length);
          return QUEUED;
        case OP_WRITE: {
          const durable = (io.flags & FLAG_FUA) !== 0;
          io.writeFile(DATA_FILE, start + io.offset, 0, io.length, durable);
          return QUEUED;
        }
        case OP_FLUSH:
          io.syncFile(DATA_FILE);
          return QUEUED;
        case OP_DISCARD:
          io.punchHole(DATA_FILE, start + io.offset, io.length);
          return QUEUED;
        case OP_WRITE_ZEROES:
          return SLOW;
        default:
          return UNSUPPORTED;
      }
    },
    runIo: (io) => writeZeroes(io, start + io.offset),
  };
}

/** The file system's way where it has one, bytes where not. */
function* writeZeroes(io: Io, fileOffset: number): Coroutine {
  if (io.flags & FLAG_NOUNMAP) io.zeroRange(DATA_FILE, fileOffset, io.length);
  else io.punchHole(DATA_FILE, fileOffset, io.length);
  let failure = yield;
  if (failure === UNSUPPORTED) failure = yield* writeZeroBytes(io, fileOffset);
  if (failure === 0 && io.flags & FLAG_FUA) {
    io.syncFile(DATA_FILE);
    failure = yield;
  }
  return failure;
}

function* writeZeroBytes(io: Io, fileOffset: number): Coroutine {
  let failure = 0;
  for (let at = 0; at < io.length && failure === 0; at += ZEROES_MAX) {
    io.writeZeroes(DATA_FILE, fileOffset + at, Math.min(ZEROES_MAX, io.length - at));
    failure = yield;
  }
  return failure;
}
