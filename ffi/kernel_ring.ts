// hot
/** The kernel's ring over mapped memory; the only file that touches its heads and tails. */

import { ptr } from "bun:ffi";
import { wordsAt } from "./arena.ts";
import { EAGAIN, EBUSY, EINTR, SysError } from "./errno.ts";
import { CQE_FLAGS, CQE_RES, CQE_WORDS, type Ring, SQE_WORDS } from "./io_uring.ts";
import * as libc from "./libc.ts";
import { enter, register, setup } from "./liburing.ts";

const IORING_SETUP_COOP_TASKRUN = 1 << 8;
export const IORING_SETUP_SQE128 = 1 << 10;
const IORING_SETUP_SINGLE_ISSUER = 1 << 12;
const IORING_SETUP_DEFER_TASKRUN = 1 << 13;

/** Best first; an older kernel refuses a flag that it does not know with EINVAL. */
export const QUEUE_RING_FLAGS = [
  IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_COOP_TASKRUN,
  0,
];

const IORING_ENTER_GETEVENTS = 1 << 0;
const IORING_ENTER_EXT_ARG = 1 << 3;
const IORING_REGISTER_FILES = 2;
const IORING_REGISTER_BUFFERS2 = 15;
const IORING_RSRC_REGISTER_SPARSE = 1 << 0;
const IORING_REGISTER_PBUF_RING = 22;
const IOU_PBUF_RING_INC = 2;
const IORING_OFF_SQES = 0x10000000;
const PARAMS_WORDS = 30;
/** struct io_uring_params: the members that the kernel answers with, in words. */
const PARAMS = { sqEntries: 0, cqEntries: 1, flags: 2, sqOff: 10, cqOff: 20 };
const OFF = { head: 0, tail: 1, ringMask: 2, array: 6, cqes: 5 };

/** The kernel's ring. It belongs to the thread that makes it. */
export class KernelRing implements Ring {
  readonly sqes: Int32Array;
  readonly entries: number;
  readonly fd: number;
  readonly #stride: number;
  readonly #sqMask: number;
  readonly #sqHead: Int32Array;
  readonly #sqTail: Int32Array;
  readonly #cqMask: number;
  readonly #cqHead: Int32Array;
  readonly #cqTail: Int32Array;
  readonly #cqes: Int32Array;
  readonly #mapped: [address: number, length: number][];
  /** How far we have filled, and what of it the kernel has been shown. */
  #tail = 0;
  #head = 0;
  #cqe = 0;

  readonly #pollMs: number;
  drained = true;

  /**
   * `flags`: IORING_SETUP_* choices, best first. `pollUs`: how long to look for completions before
   * sleeping; it trades CPU time for the time it takes to wake up.
   */
  constructor(entries: number, flags: readonly number[] = QUEUE_RING_FLAGS, pollUs = 0) {
    this.#pollMs = pollUs / 1000;
    const params = new Int32Array(new ArrayBuffer(PARAMS_WORDS * 4));
    this.fd = setup(entries, flags, params);
    this.#stride = word(params, PARAMS.flags) & IORING_SETUP_SQE128 ? SQE_WORDS * 2 : SQE_WORDS;
    this.entries = word(params, PARAMS.sqEntries);
    const cqEntries = word(params, PARAMS.cqEntries);
    const cqEnd = word(params, PARAMS.cqOff + OFF.cqes) + cqEntries * CQE_WORDS * 4;
    const sqEnd = word(params, PARAMS.sqOff + OFF.array) + this.entries * 4;
    const ringLength = Math.max(cqEnd, sqEnd);
    const sqesLength = this.entries * this.#stride * 4;
    const ring = this.#map(ringLength, 0);
    const sqes = this.#map(sqesLength, IORING_OFF_SQES);
    this.#mapped = [
      [ring, ringLength],
      [sqes, sqesLength],
    ];
    const at = (offset: number, length: number): Int32Array => wordsAt(ring + offset, length);
    const sq = (member: number): number => word(params, PARAMS.sqOff + member);
    const cq = (member: number): number => word(params, PARAMS.cqOff + member);
    this.sqes = wordsAt(sqes, sqesLength);
    this.#sqHead = at(sq(OFF.head), 4);
    this.#sqTail = at(sq(OFF.tail), 4);
    this.#sqMask = word(at(sq(OFF.ringMask), 4), 0);
    this.#cqHead = at(cq(OFF.head), 4);
    this.#cqTail = at(cq(OFF.tail), 4);
    this.#cqMask = word(at(cq(OFF.ringMask), 4), 0);
    this.#cqes = at(cq(OFF.cqes), cqEntries * CQE_WORDS * 4);
    // SQEs are used strictly in turn, so the indirection array is filled once.
    const array = at(sq(OFF.array), this.entries * 4);
    for (let index = 0; index < this.entries; index++) array[index] = index;
  }

  #map(length: number, offset: number): number {
    const flags = libc.MAP_SHARED | libc.MAP_POPULATE;
    return libc.mmap(length, libc.PROT_READ | libc.PROT_WRITE, flags, this.fd, offset);
  }

  /** Makes `files` the registered files 0, 1, 2, … of this ring. */
  registerFiles(files: readonly number[]): void {
    const fds = Int32Array.from(files);
    this.#register("FILES", IORING_REGISTER_FILES, fds, fds.length);
  }

  /** A sparse table of `count` buffers, for the driver to put requests into. */
  registerSparseBuffers(count: number): void {
    // struct io_uring_rsrc_register: nr, flags, resv2, data, tags
    const words = new Int32Array(new ArrayBuffer(32)); // once
    words[0] = count;
    words[1] = IORING_RSRC_REGISTER_SPARSE;
    this.#register("BUFFERS2", IORING_REGISTER_BUFFERS2, words, 32);
  }

  /** Buffers that multishot commands fill piece by piece: `entries` at most, ring at `address`. */
  registerBufferRing(address: number, entries: number, group: number): void {
    // struct io_uring_buf_reg: ring_addr, ring_entries, bgid, flags, resv
    const words = new Int32Array(new ArrayBuffer(40)); // once
    words[0] = address;
    words[1] = address / 2 ** 32;
    words[2] = entries;
    words[3] = group | (IOU_PBUF_RING_INC << 16);
    this.#register("PBUF_RING", IORING_REGISTER_PBUF_RING, words, 1);
  }

  #register(name: string, opcode: number, words: Int32Array, count: number): void {
    const result = register(this.fd, opcode, ptr(words), count);
    const op = `io_uring_register ${name}`; // once
    if (result < 0) throw new SysError({ op, errno: -result }); // once
  }

  nextSqe(): number {
    return this.nextSqeKeeping(0);
  }

  roomFor(count: number, reserved: number): boolean {
    const limit = this.entries - reserved - count;
    if (this.#queued() <= limit) return true;
    this.#enter(0, 0);
    return this.#queued() <= limit;
  }

  nextSqeKeeping(reserved: number): number {
    if (!this.roomFor(1, reserved)) return -1;
    const sqe = (this.#tail & this.#sqMask) * this.#stride;
    this.#tail = (this.#tail + 1) | 0;
    return sqe;
  }

  submitAndWait(): number {
    Atomics.store(this.#cqHead, 0, this.#cqe);
    if (this.#pollMs > 0 && this.#poll()) return 0;
    const result = this.#enter(1, IORING_ENTER_GETEVENTS);
    return isTransient(result) ? 0 : Math.min(result, 0);
  }

  /** With deferred task work a completion only shows when we ask the kernel for it. */
  #poll(): boolean {
    const end = performance.now() + this.#pollMs;
    do {
      this.#enter(0, IORING_ENTER_GETEVENTS);
      if (this.cqReady() > 0) return true;
    } while (performance.now() < end);
    return false;
  }

  /** As `submitAndWait`, for the control path: false when nothing came within `ms`. */
  waitFor(ms: number): boolean {
    Atomics.store(this.#cqHead, 0, this.#cqe);
    // struct io_uring_getevents_arg, followed by the struct __kernel_timespec it points to
    const words = new BigUint64Array(new ArrayBuffer(40)); // once
    words[2] = BigInt(ptr(words) + 24); // once
    words[4] = BigInt(ms * 1e6); // once
    this.#publish();
    const flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    enter(this.fd, this.#queued(), 1, flags, ptr(words), 24);
    return this.cqReady() > 0;
  }

  submit(): number {
    if (this.#queued() === 0) return 0;
    const result = this.#enter(0, 0);
    return result >= 0 || isTransient(result) ? this.#queued() : result;
  }

  #publish(): void {
    Atomics.store(this.#sqTail, 0, this.#tail);
  }

  #queued(): number {
    this.#head = this.#sqHead[0]!;
    return (this.#tail - this.#head) | 0;
  }

  #enter(minComplete: number, flags: number): number {
    this.#publish();
    const result = enter(this.fd, this.#queued(), minComplete, flags, null, 8);
    this.drained = this.#queued() === 0;
    return result;
  }

  cqReady(): number {
    return (Atomics.load(this.#cqTail, 0) - this.#cqe) | 0;
  }

  cqSlot(): number {
    return this.#cqes[(this.#cqe & this.#cqMask) * CQE_WORDS]!;
  }

  cqMeta(): number {
    return this.#cqes[(this.#cqe & this.#cqMask) * CQE_WORDS + 1]!;
  }

  cqRes(): number {
    return this.#cqes[(this.#cqe & this.#cqMask) * CQE_WORDS + CQE_RES]!;
  }

  cqFlags(): number {
    return this.#cqes[(this.#cqe & this.#cqMask) * CQE_WORDS + CQE_FLAGS]!;
  }

  cqAdvance(): void {
    this.#cqe = (this.#cqe + 1) | 0;
  }

  close(): void {
    libc.close(this.fd);
    for (const [address, length] of this.#mapped) libc.munmap(address, length); // once
  }
}

/** A signal, or the kernel short of memory: what was not taken is still queued. */
function isTransient(result: number): boolean {
  return result === -EINTR || result === -EAGAIN || result === -EBUSY;
}

function word(words: Int32Array, index: number): number {
  return words[index]!;
}
