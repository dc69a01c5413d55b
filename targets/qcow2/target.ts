/** The qcow2 target: its options, and an image as a disk. */

import {
  type DirectFile,
  type ImageFile,
  openDirect,
  openImageFile,
  openPlainFile,
} from "../../src/target/backing_file.ts";
import { DescriptorFile } from "../../src/target/file_io.ts";
import { PAGE_SIZE } from "../../src/target/memory.ts";
import { absolutePath, hasShape, parseSize, UsageError } from "../../src/target/parse.ts";
import { defineTarget, type Disk } from "../../src/target/target.ts";
import { readBitmaps } from "./bitmaps.ts";
import { type ChainImage, diskSize, openChain } from "./chain.ts";
import { Engine } from "./engine.ts";
import {
  CRYPT_LUKS,
  CRYPT_METHOD_AT,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
  V3_HEADER_LENGTH,
} from "./format.ts";
import { ImageError, isQcow2 } from "./header.ts";
import { unlock } from "./luks.ts";
import type { DiskCipher } from "./xts.ts";
import { repairImage } from "./repair.ts";
import { resizerOf } from "./resizer.ts";
import { readSnapshots } from "./snapshots.ts";
import { SLICE } from "./table_cache.ts";

export interface Qcow2Config {
  backing_file: string;
  read_only: boolean;
  buffered_io: boolean;
  /** Bytes of memory for tables. */
  cache_size: number;
  /** Holds the passphrase of an encrypted image, and nothing else; "" for none. */
  key_file: string;
}

const CACHE_DEFAULT = "8M";
/** Less has no room for the tables of the requests under way. */
const CACHE_MIN = 256 << 10;
const CACHE_MAX = 1 << 30;
/** What cryptsetup takes of a key file, too. */
const KEY_MAX = 8 << 20;

export default defineTarget<Qcow2Config>({
  name: "qcow2",
  summary: "a disk in an image of qemu's format, with all that the image stands on",
  options: {
    file: { type: "string", alias: "f", valueHint: "FILE", description: "the image" },
    "read-only": { type: "boolean", description: "open it read-only; the device is so too" },
    "buffered-io": { type: "boolean", description: "go through the page cache, also with data" },
    "cache-size": {
      type: "string",
      valueHint: "SIZE",
      description: `memory for tables (default ${CACHE_DEFAULT}iB)`,
    },
    "key-file": {
      type: "string",
      valueHint: "FILE",
      description: "the passphrase of an image encrypted with LUKS, every byte of FILE",
    },
  },
  configure(values) {
    if (values["file"] === undefined) throw new UsageError("-t qcow2 needs -f FILE");
    const size = parseSize("--cache-size", String(values["cache-size"] ?? CACHE_DEFAULT));
    if (size < CACHE_MIN || size > CACHE_MAX) {
      throw new UsageError(`--cache-size '${values["cache-size"]}': give 256K to 1G`);
    }
    const key = values["key-file"];
    return {
      backing_file: absolutePath("-f", String(values["file"])),
      read_only: values["read-only"] === true,
      buffered_io: values["buffered-io"] === true,
      cache_size: Math.ceil(size / SLICE) * SLICE,
      key_file: key === undefined ? "" : absolutePath("--key-file", String(key)),
    };
  },
  isConfig(value) {
    const paths = { backing_file: "path", key_file: "path or none" } as const;
    const switches = { read_only: "boolean", buffered_io: "boolean" } as const;
    return hasShape(value, { ...paths, ...switches, cache_size: "number" });
  },
  question(config) {
    if (config.key_file !== "" || !isEncrypted(config.backing_file)) return undefined;
    return `passphrase of ${config.backing_file} (not kept: recovery needs --key-file)`;
  },
  files: filesOf,
  open(config, secret) {
    const files: ImageFile[] = [];
    let direct: DirectFile | undefined;
    const close = (): void => {
      direct?.close();
      for (const file of files) file.close();
    };
    try {
      let chain = openChain(config.backing_file, config.read_only, (path, readOnly) => {
        const file = openImageFile(path, readOnly);
        files.push(file);
        return new DescriptorFile(file.fd, path);
      });
      cipherOf(config, chain, secret); // a wrong key is found out here, not by the first READ
      if (!config.read_only && makeWritable(chain)) chain = chainOf(config, files);
      direct = directOf(config, chain, files);
      const resizer = resizerOf(chain, config.read_only, config);
      return { disk: diskOf(config, chain, files, direct), close, resizer };
    } catch (error) {
      close();
      throw error;
    }
  },
  attach(config, disk, context) {
    const chain = chainOf(
      config,
      disk.files.map((fd) => ({ fd })),
    );
    const cipher = cipherOf(config, chain, context.secret);
    // It is the last of the files, behind those of the chain.
    const directFile = disk.report["direct_io"] === true ? disk.files.length : undefined;
    const { read_only: readOnly, cache_size: cacheSize } = config;
    return new Engine(chain, { readOnly, cacheSize, cipher, directFile }, context);
  },
  tools: async () => (await import("./tools.ts")).qcow2Tools,
});

/** The chain again, of files that are open in its order. */
function chainOf(config: Qcow2Config, files: { fd: number }[]): ChainImage {
  let next = 0;
  return openChain(config.backing_file, config.read_only, (path) => {
    return new DescriptorFile(files[next++]!.fd, path);
  });
}

/** The image and all that it stands on. The key file is read: it is no file of the disk. */
function filesOf(config: Qcow2Config): string[] {
  if (config.key_file !== "") readKey(config.key_file);
  const files: { path: string; close(): void }[] = [];
  try {
    const chain = openChain(config.backing_file, true, (path) => {
      const file = openPlainFile(path);
      files.push({ path, close: file.close });
      return new DescriptorFile(file.fd, path);
    });
    if (!config.read_only) refuseCorrupt(chain);
    return files.map(({ path }) => path);
  } finally {
    for (const file of files) file.close();
  }
}

/** Whether a LUKS header is in there; what else is wrong with it is found out by `open`. */
function isEncrypted(path: string): boolean {
  try {
    const file = openPlainFile(path);
    try {
      const image = new DescriptorFile(file.fd, path);
      const bytes = new Uint8Array(V3_HEADER_LENGTH);
      image.read(bytes, 0);
      return isQcow2(bytes) && new DataView(bytes.buffer).getUint32(CRYPT_METHOD_AT) === CRYPT_LUKS;
    } finally {
      file.close();
    }
  } catch {
    return false;
  }
}

function cipherOf(
  config: Qcow2Config,
  chain: ChainImage,
  secret: string | undefined,
): DiskCipher | undefined {
  for (let image = chain.backing; image !== undefined; image = image.backing) {
    if (image.header?.cryptMethod !== CRYPT_LUKS) continue;
    throw new ImageError(image.path, "is encrypted: as a backing file it is not served");
  }
  const encrypted = chain.header!.cryptMethod === CRYPT_LUKS;
  if (encrypted && config.key_file === "" && secret === undefined) {
    const hint = "--key-file opens it, and so does a passphrase typed at a terminal";
    throw new ImageError(chain.path, "is encrypted with LUKS", hint);
  }
  if (!encrypted && config.key_file !== "") {
    throw new ImageError(chain.path, "is not encrypted", "leave out --key-file");
  }
  if (!encrypted) return undefined;
  const typed = config.key_file === "";
  const key = typed ? Buffer.from(secret!) : readKey(config.key_file);
  return unlock(chain.file, chain.header!, key, typed ? "the passphrase" : "the key file");
}

/** Data goes directly to where it stands; tables, and what is smaller than a page, do not. */
function directOf(
  config: Qcow2Config,
  chain: ChainImage,
  files: ImageFile[],
): DirectFile | undefined {
  const { clusterSize, cryptMethod } = chain.header!;
  if (config.buffered_io || clusterSize < PAGE_SIZE || cryptMethod === CRYPT_LUKS) return undefined;
  return openDirect(files[chain.dataIndex]!.fd, config.read_only);
}

function readKey(path: string): Uint8Array {
  const file = openPlainFile(path);
  try {
    const bytes = new Uint8Array(KEY_MAX);
    return bytes.subarray(0, new DescriptorFile(file.fd, path).read(bytes, 0));
  } finally {
    file.close();
  }
}

const AS_IT_IS = "--read-only serves it as it is; ublk check --repair all may put it right";

function refuseCorrupt({ path, header }: ChainImage): void {
  if ((header!.incompatible & INCOMPATIBLE_CORRUPT) === 0) return;
  throw new ImageError(path, "is marked as corrupt: it is not written to", AS_IT_IS);
}

/** Refuses what must not be changed as it is; true when the image had to be repaired first. */
function makeWritable(chain: ChainImage): boolean {
  const header = chain.header!;
  refuseCorrupt(chain);
  // What is needed by the first WRITE had better be found wrong now.
  readSnapshots(chain.file, header);
  readBitmaps(chain.file, header);
  if ((header.incompatible & INCOMPATIBLE_DIRTY) === 0) return false;
  // Somebody who keeps refcounts lazily did not end well: they are counted anew.
  const { corruptions } = repairImage(chain.file, header, "all");
  if (corruptions > 0) {
    const reason = `is marked as dirty, and ${corruptions} errors cannot be repaired`;
    throw new ImageError(chain.path, reason, AS_IT_IS);
  }
  return true;
}

function diskOf(
  config: Qcow2Config,
  chain: ChainImage,
  files: ImageFile[],
  direct: DirectFile | undefined,
): Disk {
  const header = chain.header!;
  return {
    size: diskSize(chain),
    blockBits: 9,
    physicalBits: 12,
    readOnly: config.read_only,
    rotational: files[0]!.rotational,
    files: [...files, ...(direct === undefined ? [] : [direct])].map((file) => file.fd),
    flush: !config.read_only,
    fua: !config.read_only,
    discardGranularity: config.read_only ? 0 : header.clusterSize,
    writeZeroes: !config.read_only,
    touchesBytes: true,
    memoryAlignment: direct?.memoryAlignment ?? 1,
    segments: direct?.segments,
    threads: 1,
    report: {
      backing_file: config.backing_file,
      read_only: config.read_only,
      direct_io: direct !== undefined,
      cluster_size: header.clusterSize,
      chain_length: chainLength(chain),
    },
  };
}

function chainLength(chain: ChainImage): number {
  let length = 0;
  for (let image: ChainImage | undefined = chain; image !== undefined; image = image.backing) {
    length++;
  }
  return length;
}
