/** Slices between the cache and their files: each loaded once, written back together. */

import { EIO } from "../../src/target/file_io.ts";
import { type Coroutine, type Io } from "../../src/target/target.ts";
import {
  DIRTY,
  FAILED,
  keyOf,
  LOADING,
  MISS,
  SLICE,
  type TableCache,
  WRITING,
} from "./table_cache.ts";

/** Looks over a slice that has just been loaded; may mark it. */
export type Inspect = (slot: number) => void;

/** The slot of a slice, loaded if need be, or -errno. It stays only as long as nobody yields. */
export function* loadSlice(
  cache: TableCache,
  io: Io,
  file: number,
  offset: number,
  length: number,
  inspect?: Inspect,
): Coroutine {
  const key = keyOf(file, offset);
  for (;;) {
    const found = cache.find(key);
    if (found !== MISS) return found;
    if (cache.lookUp(key) !== MISS) {
      yield cache.changed;
      continue;
    }
    const slot = cache.take(key);
    if (slot === MISS) {
      yield cache.changed;
      continue;
    }
    cache.state[slot]! |= LOADING;
    io.readMeta(file, offset, cache.address + slot * SLICE, length);
    const failure = yield;
    cache.state[slot]! &= ~LOADING;
    if (failure < 0) cache.forget(slot);
    else inspect?.(slot);
    cache.onPages?.();
    cache.changed.wakeAll();
    if (failure < 0) return failure;
  }
}

/** As `loadSlice`, pinned and free to be changed until the next yield. */
export function* pinSlice(
  cache: TableCache,
  io: Io,
  file: number,
  offset: number,
  length: number,
  inspect?: Inspect,
): Coroutine {
  const slot: number = yield* loadSlice(cache, io, file, offset, length, inspect);
  if (slot >= 0) cache.pins[slot]!++;
  return slot;
}

export function unpin(cache: TableCache, slot: number): void {
  cache.pins[slot]!--;
  if (cache.pins[slot] === 0) cache.changed.wakeAll();
}

/** Waits until a pinned slice may be changed: nobody is writing it out. */
export function* settle(cache: TableCache, slot: number): Coroutine {
  while ((cache.state[slot]! & WRITING) !== 0) yield cache.changed;
  return 0;
}

/**
 * Returns when the file has every change that was made to a pinned slice before the call. Those
 * who come while it is written wait, and what they changed goes together. 0 or -errno.
 */
export function* writeBack(
  cache: TableCache,
  io: Io,
  slot: number,
  file: number,
  offset: number,
  length: number,
): Coroutine {
  while ((cache.state[slot]! & (DIRTY | WRITING)) !== 0) {
    if ((cache.state[slot]! & FAILED) !== 0) return -EIO;
    if ((cache.state[slot]! & WRITING) !== 0) {
      yield cache.changed;
      continue;
    }
    cache.state[slot] = (cache.state[slot]! & ~DIRTY) | WRITING;
    io.writeMeta(file, offset, cache.address + slot * SLICE, length);
    const failure = yield;
    cache.state[slot]! &= ~WRITING;
    if (failure < 0) cache.state[slot]! |= DIRTY | FAILED;
    cache.changed.wakeAll();
    if (failure < 0) return failure;
  }
  return 0;
}
