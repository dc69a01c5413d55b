/** A disk kept in a regular file or on a block device. */

import { openBackingFile } from "../src/target/backing_file.ts";
import { fileDisk, fileHandlers } from "../src/target/file_disk.ts";
import { backingSize, checkBackingSize, setBackingSize } from "../src/target/backing_size.ts";
import { absolutePath, hasShape, parseSectors, UsageError } from "../src/target/parse.ts";
import { defineTarget } from "../src/target/target.ts";

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
    if (values["file"] === undefined) throw new UsageError("-t loop needs -f FILE");
    return {
      backing_file: absolutePath("-f", String(values["file"])),
      offset: parseSectors("--offset", String(values["offset"] ?? "0")),
      read_only: values["read-only"] === true,
      buffered_io: values["buffered-io"] === true,
    };
  },
  isConfig(value) {
    const switches = { read_only: "boolean", buffered_io: "boolean" } as const;
    return hasShape(value, { backing_file: "path", offset: "number", ...switches });
  },
  files: (config) => [config.backing_file],
  open(config, _secret, size) {
    const file = openBackingFile(config.backing_file, {
      readOnly: config.read_only,
      buffered: config.buffered_io,
      offset: config.offset,
      size,
    });
    const report = {
      backing_file: config.backing_file,
      direct_io: file.direct,
      offset: config.offset,
      read_only: config.read_only,
    };
    const { backing_file: path, offset, read_only: readOnly } = config;
    const range = { fd: file.fd, path, offset, readOnly };
    return {
      disk: fileDisk(file, config.read_only, report),
      close: file.close,
      resizer: {
        found: (block) => backingSize(range, block),
        check: (from, to, block) => checkBackingSize(range, from, to, block),
        apply: (_, to, block) => setBackingSize(range, to, block),
        config: () => config,
      },
    };
  },
  attach: (config) => fileHandlers(config.offset),
});
