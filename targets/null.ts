/** A disk that forgets what is written and reads zeros. */

import { hasShape, parseSize, UsageError } from "../src/target/parse.ts";
import {
  defineTarget,
  type Disk,
  OP_READ,
  OP_WRITE,
  QUEUED,
  type Resizer,
} from "../src/target/target.ts";

interface NullConfig {
  size: number;
  fill: boolean;
  /** Absent in state files of versions that did not have it. */
  read_only?: boolean;
}

const DEFAULT_SIZE = "250G";
const SECTOR = 512;

export default defineTarget<NullConfig>({
  name: "null",
  summary: "a disk that forgets what is written and reads zeros",
  options: {
    size: {
      type: "string",
      valueHint: "SIZE",
      description: `size of the disk (default ${DEFAULT_SIZE}iB)`,
    },
    "no-fill": {
      type: "boolean",
      description: "READ leaves the buffer as it is: for benchmarks, shows old bytes of this disk",
    },
    "read-only": { type: "boolean", description: "the device is read-only" },
  },
  configure(values) {
    const size = parseSize("--size", String(values["size"] ?? DEFAULT_SIZE));
    if (size === 0 || size % SECTOR !== 0) {
      throw new UsageError(`--size '${values["size"]}': give a positive multiple of ${SECTOR}`);
    }
    return { size, fill: values["no-fill"] !== true, read_only: values["read-only"] === true };
  },
  isConfig: (value) =>
    hasShape(value, { size: "number", fill: "boolean", read_only: "boolean or absent" }),
  open(config) {
    const disk: Disk = {
      size: config.size,
      blockBits: 9,
      physicalBits: 12,
      readOnly: config.read_only === true,
      rotational: false,
      files: [],
      flush: false,
      fua: false,
      discardGranularity: SECTOR,
      writeZeroes: true,
      touchesBytes: false,
      ...(config.fill ? {} : { copyOnly: true }),
      memoryAlignment: 1,
      segments: undefined,
      threads: "any",
      report: config.fill ? {} : { fill: false },
    };
    const resizer: Resizer = {
      found: () => undefined,
      check: () => {},
      apply: () => {},
      config: (size) => ({ ...config, size }),
    };
    return { disk, close: () => {}, resizer };
  },
  attach(config) {
    const fill = config.fill;
    return {
      queueIo(io) {
        if (io.op === OP_READ) {
          if (!fill) return io.length;
          io.zeroBytes(0, io.length);
          return QUEUED;
        }
        return io.op === OP_WRITE ? io.length : 0;
      },
    };
  },
});
