/** What an open backing file, or the block device that it is, can do. */

import { fstatSync, type Stats } from "node:fs";
import * as libc from "../../ffi/libc.ts";
import { queueLimit } from "./backing_queue.ts";

/** What a disk may be kept in. */
export type Kind = "file" | "block";

export const SECTOR = 512;
/** The largest logical block: the driver takes no more than a page, which is 4 KiB or larger. */
export const BLOCK_MAX = 4096;

const BLKGETSIZE64 = 0x80081272;
const BLKSSZGET = 0x1268;
const BLKPBSZGET = 0x127b;
const BLKROTATIONAL = 0x127e;
const STATX_DIOALIGN = 0x2000;
const STATX_MASK_AT = 0;
const STATX_DIO_MEM_ALIGN_AT = 152;
const STATX_DIO_OFFSET_ALIGN_AT = 156;
export const FALLOC_FL_PUNCH_HOLE_KEEP_SIZE = 3;

/** Bytes of the block device that `fd` is; undefined when it is a file, which may grow. */
export function deviceSize(fd: number): number | undefined {
  const block = fstatSync(fd).isBlockDevice();
  return block ? Number(query(fd, BLKGETSIZE64, "BLKGETSIZE64").getBigUint64(0, true)) : undefined;
}

/** The smallest request that a block device takes, in bytes. */
export const logicalBlock = (fd: number): number => queryU32(fd, BLKSSZGET, "BLKSSZGET");

export function isRotational(fd: number, kind: Kind): boolean {
  if (kind === "file") return false;
  return query(fd, BLKROTATIONAL, "BLKROTATIONAL").getUint16(0, true) !== 0;
}

/** What offset and length of direct IO must be multiples of; 0 where there is none. */
export function directAlignment(fd: number, kind: Kind): number {
  if (kind === "block") return logicalBlock(fd);
  const found = libc.statx(fd, STATX_DIOALIGN);
  const told = (found.getUint32(STATX_MASK_AT, true) & STATX_DIOALIGN) !== 0;
  // A file system that does not tell (and takes O_DIRECT) takes 4 KiB.
  return told ? found.getUint32(STATX_DIO_OFFSET_ALIGN_AT, true) : BLOCK_MAX;
}

/** What addresses of direct IO must be multiples of. */
export function memoryAlignment(fd: number, kind: Kind, stats: Stats): number {
  if (kind === "block") return queueLimit(stats.rdev, "dma_alignment") + 1;
  const told = libc.statx(fd, STATX_DIOALIGN).getUint32(STATX_DIO_MEM_ALIGN_AT, true);
  return told === 0 ? SECTOR : told;
}

export function physicalBlock(fd: number, kind: Kind, stats: Stats): number {
  if (kind === "block") return queryU32(fd, BLKPBSZGET, "BLKPBSZGET");
  const block = stats.blksize;
  return block <= BLOCK_MAX && Number.isInteger(Math.log2(block)) ? block : BLOCK_MAX;
}

/** 0 where no space can be given back. */
export function discardGranularity(fd: number, kind: Kind, stats: Stats): number {
  if (kind === "block") {
    // fallocate() frees space on a block device by way of its write-zeroes command.
    const zeroes = queueLimit(stats.rdev, "write_zeroes_max_bytes");
    return zeroes > 0 ? queueLimit(stats.rdev, "discard_granularity") : 0;
  }
  try {
    // Behind the end there is nothing to lose, and the answer is the same.
    const behind = Math.ceil(stats.size / BLOCK_MAX) * BLOCK_MAX;
    libc.fallocate(fd, FALLOC_FL_PUNCH_HOLE_KEEP_SIZE, behind, BLOCK_MAX);
    return Math.max(SECTOR, stats.blksize);
  } catch {
    return 0;
  }
}

function query(fd: number, request: number, name: string): DataView {
  const buffer = new Uint8Array(new ArrayBuffer(8));
  libc.ioctl(fd, request, buffer, name);
  return new DataView(buffer.buffer);
}

const queryU32 = (fd: number, request: number, name: string): number =>
  query(fd, request, name).getUint32(0, true);
