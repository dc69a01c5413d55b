/**
 * /run/ublk/ID.stat: what the threads of a device count, in memory that they share with whoever
 * asks. One area a thread (target/counters.ts), behind a header. A daemon begins a new file.
 */

import { closeSync, fstatSync } from "node:fs";
import { PAGE_SIZE, roundUp, wordsAt } from "../../ffi/arena.ts";
import { ENOENT, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import {
  addTo,
  BUCKETS,
  CELL_BUSY,
  CELL_OPS,
  CELL_WORDS,
  COUNT_BUCKETS,
  COUNT_BYTES,
  COUNT_ERRORS,
  COUNT_TIME_US,
  COUNTED_OPS,
  OP_CELLS,
  THREAD_AREA,
  THREAD_WORDS,
  valueOf,
} from "../target/counters.ts";
import { openFile, putFile } from "./state.ts";

/** Cells of the header. The schema changes with every change of the layout. */
const HEADER = { schema: 0, threads: 1, sinceMs: 2, pid: 3 } as const;
const HEADER_BYTES = 64;
const WORD_BYTES = 4;
const SCHEMA = 0x75626c6b02;
const THREADS_MAX = 4096;

/** The counters of a device that this process serves. */
export interface Counters {
  /** Of each thread's area. */
  addresses: number[];
  unmap(): void;
}

/** Makes the file, all zero, and maps it. */
export function makeCounters(id: number, threads: number, dir?: string): Counters {
  const length = roundUp(HEADER_BYTES + threads * THREAD_AREA, PAGE_SIZE);
  const content = new Int32Array(length / WORD_BYTES);
  addTo(content, HEADER.schema, SCHEMA);
  addTo(content, HEADER.threads, threads);
  addTo(content, HEADER.sinceMs, Date.now());
  addTo(content, HEADER.pid, process.pid);
  const path = putFile(id, "stat", new Uint8Array(content.buffer), dir);
  const fd = libc.open(path, libc.O_RDWR);
  const address = libc.mmap(
    length,
    libc.PROT_READ | libc.PROT_WRITE,
    libc.MAP_SHARED | libc.MAP_POPULATE,
    fd,
    0,
  );
  libc.close(fd);
  const areaOf = (_: unknown, index: number): number =>
    address + HEADER_BYTES + index * THREAD_AREA;
  const unmap = (): void => libc.munmap(address, length);
  return { addresses: Array.from({ length: threads }, areaOf), unmap };
}

/** What was counted of one operation. */
export interface OpStats {
  ios: number;
  bytes: number;
  errors: number;
  /** Of all requests together. */
  time_us: number;
  /** Requests that took less than 1, 2, 4, 8, … microseconds; the last has the rest. */
  histogram: number[];
}

export interface Stats {
  /** When the daemon began to count, in milliseconds of Unix time, and which one it is. */
  since_ms: number;
  ublksrv_pid: number;
  /** Requests that have arrived and are not done. */
  in_flight: number;
  ops: Record<(typeof COUNTED_OPS)[number], OpStats>;
}

/** Undefined when nothing is counted: another server's device, or none. */
export function readStats(id: number, dir?: string): Stats | undefined {
  const fd = openFile(id, "stat", dir);
  if (fd === undefined) return undefined;
  try {
    return read(fd, fstatSync(fd).size);
  } finally {
    closeSync(fd);
  }
}

/** As `readStats`, of a device that has to be there. */
export function needStats(id: number, dir?: string): Stats {
  const stats = readStats(id, dir);
  if (stats !== undefined) return stats;
  const reason = "is not there, or not one that this server counts";
  const hint = "see which there are: ublk list";
  throw new SysError({ op: "stat", errno: ENOENT, subject: `device ${id}`, reason, hint });
}

/** Through a mapping, because read(2) may tear a cell that is being written. */
function read(fd: number, size: number): Stats | undefined {
  if (size < PAGE_SIZE) return undefined;
  const address = libc.mmap(size, libc.PROT_READ, libc.MAP_SHARED | libc.MAP_POPULATE, fd, 0);
  try {
    const header = wordsAt(address, HEADER_BYTES);
    const threads = valueOf(header, HEADER.threads);
    const whole = threads <= THREADS_MAX && HEADER_BYTES + threads * THREAD_AREA <= size;
    if (valueOf(header, HEADER.schema) !== SCHEMA || !whole) return undefined;
    const areas = wordsAt(address + HEADER_BYTES, threads * THREAD_AREA);
    return statsOf(
      header,
      atOneMoment(() => areas.slice()),
    );
  } finally {
    libc.munmap(address, size);
  }
}

/**
 * The areas as they were together: they are copied as one, because whoever adds up cell by cell may
 * lose his CPU in between, and numbers of different moments give averages that never were. A second
 * copy tells whether a cell of the first was caught between its two halves.
 */
export function atOneMoment(copy: () => Int32Array): Int32Array {
  for (let older = copy(); ;) {
    const newer = copy();
    if (isWhole(older, newer)) return older;
    older = newer;
  }
}

/** Between its halves a cell is far too large; then the low one becomes less. */
function isWhole(older: Int32Array, newer: Int32Array): boolean {
  for (let at = 0; at < older.length; at += CELL_WORDS) {
    const counts = (at % THREAD_WORDS) / CELL_WORDS >= CELL_OPS; // those before may become less
    if (counts && (newer[at + 1] !== older[at + 1] || newer[at]! < older[at]!)) return false;
  }
  return true;
}

function statsOf(header: Int32Array, areas: Int32Array): Stats {
  const threads = Array.from({ length: areas.length / THREAD_WORDS }, (_, index) =>
    areas.subarray(index * THREAD_WORDS, (index + 1) * THREAD_WORDS),
  );
  const ops = COUNTED_OPS.map((name, op) => [name, opStats(threads, CELL_OPS + op * OP_CELLS)]);
  return {
    since_ms: valueOf(header, HEADER.sinceMs),
    ublksrv_pid: valueOf(header, HEADER.pid),
    in_flight: sum(threads, CELL_BUSY),
    ops: Object.fromEntries(ops) as Stats["ops"],
  };
}

function opStats(threads: Int32Array[], block: number): OpStats {
  const histogram = Array.from({ length: BUCKETS }, (_, bucket) =>
    sum(threads, block + COUNT_BUCKETS + bucket),
  );
  return {
    ios: total(histogram),
    bytes: sum(threads, block + COUNT_BYTES),
    errors: sum(threads, block + COUNT_ERRORS),
    time_us: sum(threads, block + COUNT_TIME_US),
    histogram,
  };
}

const sum = (threads: Int32Array[], cell: number): number =>
  threads.reduce((all, words) => all + valueOf(words, cell), 0);

const total = (numbers: number[]): number => numbers.reduce((all, one) => all + one, 0);
