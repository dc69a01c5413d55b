/** A disk kept in a regular file or on a block device. */

import { resolve } from "node:path";
import { openBackingFile } from "../src/target/backing_file.ts";
import { parseSectors, UsageError } from "../src/target/parse.ts";
import {
  type Coroutine,
  DATA_FILE,
  defineTarget,
  FLAG_FUA,
  FLAG_NOUNMAP,
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
} from "../src/target/target.ts";

interface LoopConfig {
  backing_file: string;
  /** Where the disk begins in the file, in bytes. */
  offset: number;
  read_only: boolean;
  buffered_io: boolean;
}

export default defineTarget<LoopConfig>({
  name: "loop",
  summary: "a disk kept in a regular file or on a block device",
  options: {
    file: {
      type: "string",
      alias: "f",
      valueHint: "FILE",
      description: "the regular file or block device",
      required: true,
    },
    offset: {
      type: "string",
      alias: "o",
      valueHint: "SECTORS",
      description: "begin there: sectors of 512 bytes, or bytes with a suffix (1M)",
    },
    "read-only": { type: "boolean", description: "open it read-only; the device is so too" },
    "buffered-io": { type: "boolean", description: "go through the page cache" },
  },
  configure(values) {
    if (!values["file"]) throw new UsageError("-t loop needs -f FILE");
    return {
      backing_file: resolve(String(values["file"])),
      offset: parseSectors("--offset", String(values["offset"] ?? "0")),
      read_only: values["read-only"] === true,
      buffered_io: values["buffered-io"] === true,
    };
  },
  open(config) {
    const file = openBackingFile(config.backing_file, {
      readOnly: config.read_only,
      buffered: config.buffered_io,
      offset: config.offset,
    });
    return {
      disk: {
        size: file.size,
        blockBits: file.blockBits,
        physicalBits: file.physicalBits,
        readOnly: config.read_only,
        rotational: file.rotational,
        files: [file.fd],
        flush: true,
        fua: true,
        discardGranularity: file.discardGranularity,
        writeZeroes: file.discardGranularity > 0,
        touchesBytes: false,
        memoryAlignment: file.memoryAlignment,
        threads: "any",
        report: {
          backing_file: config.backing_file,
          direct_io: file.direct,
          offset: config.offset,
          read_only: config.read_only,
        },
      },
      close: file.close,
    };
  },
  attach(config) {
    const start = config.offset;
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
  },
});

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
