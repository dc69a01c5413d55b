/** Memory that the kernel may keep: mapped once, never moved, never seen by the collector. */

import { type Pointer, toArrayBuffer } from "bun:ffi";
import { SysError } from "./errno.ts";
import * as libc from "./libc.ts";

export const PAGE_SIZE = libc.pageSize();

export function roundUp(length: number, unit: number): number {
  return Math.ceil(length / unit) * unit;
}

/** Words of mapped memory. Every wrapped byte counts as heap, so IO buffers stay addresses. */
export function wordsAt(address: number, length: number): Int32Array {
  return new Int32Array(toArrayBuffer(address as Pointer, 0, length));
}

const PROT = libc.PROT_READ | libc.PROT_WRITE;
/** Deep queues of large requests map far more than they ever use, and perhaps than there is. */
const FLAGS = libc.MAP_PRIVATE | libc.MAP_ANONYMOUS | libc.MAP_NORESERVE;

/** Below programs and what they map, above the few that map low addresses. */
const REMOTE_BEGIN = 2 ** 44;
const TRIES = 3;

/** Where most likely no other process has anything: for what `BatchQueue` says. */
function mapRemote(length: number): number {
  for (let tries = 0; tries < TRIES; tries++) {
    const page = crypto.getRandomValues(new Uint32Array(1))[0]!;
    const address = REMOTE_BEGIN + page * PAGE_SIZE;
    try {
      return libc.mmap(length, PROT, FLAGS | libc.MAP_FIXED_NOREPLACE, -1, 0, address);
    } catch (error) {
      if (!(error instanceof SysError)) throw error; // taken, or more than there are addresses
    }
  }
  return libc.mmap(length, PROT, FLAGS, -1, 0);
}

/** Zeroed anonymous memory. Pages are backed when first touched, by whichever CPU does so. */
export class Arena {
  readonly address: number;
  readonly length: number;

  constructor(length: number, place?: "remote") {
    this.length = roundUp(length, PAGE_SIZE);
    this.address =
      place === "remote" ? mapRemote(this.length) : libc.mmap(this.length, PROT, FLAGS, -1, 0);
    // A buffer is as large as the largest request and mostly untouched behind the first pages.
    libc.adviseSmallPages(this.address, this.length);
  }

  free(): void {
    libc.munmap(this.address, this.length);
  }
}
