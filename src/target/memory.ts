/** The kernel's page, and a target's own memory (`QueueContext.allocate`) as JavaScript has it. */

import { wordsAt } from "../../ffi/arena.ts";
import { memcpy, memset } from "../../ffi/libc.ts";

export { PAGE_SIZE } from "../../ffi/arena.ts";

/** Wrapped bytes count as heap: for tables and small buffers, not for what requests carry. */
export function bytesAt(address: number, length: number): Uint8Array<ArrayBuffer> {
  const words = wordsAt(address, Math.ceil(length / 4) * 4);
  return new Uint8Array(words.buffer as ArrayBuffer, words.byteOffset, length);
}

export function viewAt(address: number, length: number): DataView<ArrayBuffer> {
  const bytes = bytesAt(address, length);
  return new DataView(bytes.buffer, bytes.byteOffset, length);
}

export function copyMemory(to: number, from: number, length: number): void {
  memcpy(to, from, length);
}

export function zeroMemory(address: number, length: number): void {
  memset(address, 0, length);
}
