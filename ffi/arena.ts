/** Memory that the kernel may keep: mapped once, never moved, never seen by the collector. */

import { type Pointer, toArrayBuffer } from "bun:ffi";
import * as libc from "./libc.ts";

export const PAGE_SIZE = libc.pageSize();

export function roundUp(length: number, unit: number): number {
  return Math.ceil(length / unit) * unit;
}

/** Words of mapped memory. Every wrapped byte counts as heap, so IO buffers stay addresses. */
export function wordsAt(address: number, length: number): Int32Array {
  return new Int32Array(toArrayBuffer(address as Pointer, 0, length));
}

/** Zeroed anonymous memory. Pages are backed when first touched, by whichever CPU does so. */
export class Arena {
  readonly address: number;
  readonly length: number;

  constructor(length: number) {
    this.length = roundUp(length, PAGE_SIZE);
    const prot = libc.PROT_READ | libc.PROT_WRITE;
    const flags = libc.MAP_PRIVATE | libc.MAP_ANONYMOUS;
    this.address = libc.mmap(this.length, prot, flags, -1, 0);
    // A buffer is as large as the largest request and mostly untouched behind the first pages.
    libc.adviseSmallPages(this.address, this.length);
  }

  free(): void {
    libc.munmap(this.address, this.length);
  }
}
