/** Opens what a disk is kept in, a regular file or a block device, and locks it. */

import { fstatSync, statSync } from "node:fs";
import { EACCES, EBUSY, EINVAL, EPERM, EROFS, SysError, trySys } from "../../ffi/errno.ts";
import { FILE_END_MAX } from "../../ffi/io_uring.ts";
import * as libc from "../../ffi/libc.ts";
import {
  BLOCK_MAX,
  deviceSize,
  directAlignment,
  discardGranularity,
  isRotational,
  type Kind,
  logicalBlock,
  memoryAlignment,
  physicalBlock,
  SECTOR,
} from "./backing_limits.ts";
import { segmentsOf } from "./backing_queue.ts";
import { lockImage, unlockImage } from "./image_lock.ts";
import type { Segments } from "./target.ts";

export interface BackingOptions {
  readOnly: boolean;
  /** Go through the page cache even where direct IO would work. */
  buffered: boolean;
  /** Where the disk begins in the file, in bytes. */
  offset: number;
  /** Bytes of a disk that was live before: what has grown behind it is not looked at. */
  size?: number | undefined;
}

export interface BackingFile {
  fd: number;
  /** Bytes from the offset to the end of the disk. */
  size: number;
  direct: boolean;
  blockBits: number;
  physicalBits: number;
  rotational: boolean;
  /** What addresses of direct IO must be multiples of; 1 through the page cache. */
  memoryAlignment: number;
  /** Undefined through the page cache, and where nothing is known. */
  segments: Segments | undefined;
  /** 0 where no space can be given back. */
  discardGranularity: number;
  close(): void;
}

/** Throws SysError for what is no disk: missing, a directory, empty, misaligned, locked. */
export function openBackingFile(path: string, options: BackingOptions): BackingFile {
  const kind = kindOf(path);
  const first = openFor(path, kind, options, options.buffered ? 0 : libc.O_DIRECT);
  try {
    lockImage(first.fd, path, options.readOnly);
    const file = inspect(first.fd, path, kind, options, first.direct);
    // O_DIRECT that the disk's size or offset forbids.
    if (first.direct && !file.direct) libc.clearFileFlags(first.fd);
    return file;
  } catch (error) {
    libc.close(first.fd);
    throw error;
  }
}

/** A file with a format of its own, up to 4 PiB; its bytes go through the page cache. */
export interface ImageFile {
  fd: number;
  rotational: boolean;
  discards: boolean;
  close(): void;
}

/** Opens and locks an image; throws SysError. `mayShare`: the verb knows --read-only. */
export function openImageFile(path: string, readOnly: boolean, mayShare = true): ImageFile {
  const kind = kindOf(path);
  const { fd } = openFor(path, kind, { readOnly, buffered: true, offset: 0 }, 0, mayShare);
  try {
    lockImage(fd, path, readOnly, mayShare);
    const stats = fstatSync(fd);
    refuseFar(path, deviceSize(fd) ?? stats.size);
    const rotational = isRotational(fd, kind);
    const discards = !readOnly && discardGranularity(fd, kind, stats) > 0;
    return { fd, rotational, discards, close: () => unlockAndClose(fd) };
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** Opens a file for reading and locks nothing. A pipe, which would keep us waiting, is refused. */
export function openPlainFile(path: string): { fd: number; close(): void } {
  kindOf(path, "is no file that can be read again");
  const fd = libc.open(path, libc.O_RDONLY);
  return { fd, close: () => libc.close(fd) };
}

/** A second, direct descriptor of a file that is open and locked already. */
export interface DirectFile {
  fd: number;
  memoryAlignment: number;
  segments: Segments | undefined;
  close(): void;
}

/**
 * undefined where direct IO cannot be done, or not in pieces of 4 KiB. By descriptor: another file
 * may have the name by now, one that nobody locked or looked into.
 */
export function openDirect(opened: number, readOnly: boolean): DirectFile | undefined {
  const path = `/proc/self/fd/${opened}`;
  const kind = kindOf(path);
  let fd: number;
  try {
    fd = libc.open(path, (readOnly ? libc.O_RDONLY : libc.O_RDWR) | libc.O_DIRECT);
  } catch (error) {
    if (error instanceof SysError && error.errno === EINVAL) return undefined;
    throw error;
  }
  try {
    const direct = directFile(fd, kind);
    if (direct === undefined) libc.close(fd);
    // The page cache would take pages together, tables and data; the kernel reports an IO error
    // when a direct write ends in one of which another part was written to meanwhile.
    else if (!readOnly) libc.readNothingAhead(opened);
    return direct;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

function directFile(fd: number, kind: Kind): DirectFile | undefined {
  const alignment = directAlignment(fd, kind);
  if (alignment === 0 || BLOCK_MAX % alignment !== 0) return undefined;
  const stats = fstatSync(fd);
  const least = memoryAlignment(fd, kind, stats);
  const segments = segmentsOf(stats);
  return { fd, memoryAlignment: least, segments, close: () => libc.close(fd) };
}

function unlockAndClose(fd: number): void {
  unlockImage(fd);
  libc.close(fd);
}

/** `otherwise`: what is wrong with anything but a file, a block device or a directory. */
function kindOf(path: string, otherwise = "is no disk"): Kind {
  const found = trySys("open", path, () => statSync(path));
  if (found.isFile()) return "file";
  if (found.isBlockDevice()) return "block";
  const what = found.isDirectory() ? "is a directory" : otherwise;
  const hint = "give a regular file or a block device";
  throw new SysError({ op: "open", errno: EINVAL, subject: path, reason: what, hint });
}

interface Opened {
  fd: number;
  direct: boolean;
}

function openFor(
  path: string,
  kind: Kind,
  options: BackingOptions,
  direct: number,
  mayShare = true,
): Opened {
  // O_EXCL on a block device: refused while it is mounted, and nobody mounts it under us.
  const exclusive = kind === "block" && !options.readOnly ? libc.O_EXCL : 0;
  const access = options.readOnly ? libc.O_RDONLY : libc.O_RDWR;
  try {
    return { fd: libc.open(path, access | exclusive | direct), direct: direct !== 0 };
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    // A file system without direct IO says so here.
    if (direct !== 0 && error.errno === EINVAL) return openFor(path, kind, options, 0);
    throw explainOpen(error, options.readOnly, mayShare);
  }
}

function explainOpen(error: SysError, readOnly: boolean, mayShare: boolean): SysError {
  if (error.errno === EBUSY) {
    const busy = "it is mounted or otherwise in use";
    return error.withHint(mayShare ? `${busy}; --read-only only looks at it` : busy);
  }
  const denied = [EACCES, EPERM, EROFS].includes(error.errno);
  if (!denied || readOnly) return error;
  const way = mayShare ? "add --read-only, or run as somebody who may" : "run as somebody who may";
  return error.withHint(`it cannot be written: ${way}`);
}

function inspect(
  fd: number,
  path: string,
  kind: Kind,
  options: BackingOptions,
  direct: boolean,
): BackingFile {
  const stats = fstatSync(fd);
  const end = Math.min(deviceSize(fd) ?? stats.size, endOf(options));
  const size = end - options.offset;
  refuseSize(path, end, options.offset);
  const alignment = direct ? directAlignment(fd, kind) : 0;
  const fits =
    alignment > 0 && alignment <= BLOCK_MAX && isMultiple(size, options.offset, alignment);
  const least = kind === "block" ? logicalBlock(fd) : SECTOR;
  const block = Math.max(SECTOR, least, fits ? alignment : 0);
  if (!isMultiple(size, options.offset, block)) throw misaligned(path, end, options.offset, block);
  return {
    fd,
    size,
    direct: direct && fits,
    blockBits: Math.log2(block),
    physicalBits: Math.log2(Math.max(block, physicalBlock(fd, kind, stats))),
    memoryAlignment: direct && fits ? memoryAlignment(fd, kind, stats) : 1,
    segments: direct && fits ? segmentsOf(stats) : undefined,
    rotational: isRotational(fd, kind),
    discardGranularity: options.readOnly ? 0 : discardGranularity(fd, kind, stats),
    close: () => unlockAndClose(fd),
  };
}

/** Of a disk that was live before: so direct IO and blocks are chosen as they were then. */
const endOf = ({ offset, size }: BackingOptions): number =>
  size === undefined ? Number.POSITIVE_INFINITY : offset + size;

const isMultiple = (size: number, offset: number, unit: number): boolean =>
  size % unit === 0 && offset % unit === 0;

function refuseSize(path: string, end: number, offset: number): void {
  const facts = { op: "open", errno: EINVAL, subject: path };
  refuseFar(path, end);
  if (end === 0) {
    const hint = `give it a size first: truncate -s 1G ${path}`;
    throw new SysError({ ...facts, reason: "is empty", hint });
  }
  if (offset >= end) {
    const reason = `has ${end} bytes, so no disk begins at offset ${offset}`;
    throw new SysError({
      ...facts,
      reason,
      hint: "-o counts sectors of 512 bytes, or bytes with a suffix (1M)",
    });
  }
}

/** Some of its offsets could not be given to an SQE. */
function refuseFar(path: string, end: number): void {
  if (end <= FILE_END_MAX) return;
  const reason = `has ${end} bytes, more than the 4 PiB that can be served`;
  throw new SysError({ op: "open", errno: EINVAL, subject: path, reason });
}

function misaligned(path: string, end: number, offset: number, block: number): SysError {
  const size = end - offset;
  const what = offset % block === 0 ? `size of ${size}` : `offset of ${offset}`;
  const up = Math.ceil(size / block) * block + offset;
  return new SysError({
    op: "open",
    errno: EINVAL,
    subject: path,
    reason: `its ${what} bytes is no multiple of the block size ${block}`,
    hint: offset % block === 0 ? `round it up: truncate -s ${up} ${path}` : `see -o`,
  });
}
