/** Builds what a server thread runs, out of its plan: ring, requests, commands. */

import { Arena, wordsAt } from "../../ffi/arena.ts";
import { EINVAL, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import type { Ring } from "../../ffi/io_uring.ts";
import { KernelRing, QUEUE_RING_FLAGS } from "../../ffi/kernel_ring.ts";
import { ZEROES_MAX } from "../target/target.ts";
import type { QueueShare, ThreadShape } from "../target/thread_shape.ts";
import { BatchQueue, FETCH_BUFFERS } from "./batch_queue.ts";
import { type Commands, TagCommands } from "./commands.ts";
import { BatchCommands } from "./commands_batch.ts";
import type { IoShared, QueueIo } from "./io.ts";
import { CopyIo } from "./io_copy.ts";
import { RegisteredIo } from "./io_registered.ts";
import { UserCopyIo } from "./io_user_copy.ts";
import { WaitTimes } from "./wait_times.ts";

/** A ring that can be told of files and buffers: the kernel's, or a simulated one. */
export interface ThreadRing extends Ring {
  readonly entries: number;
  registerFiles(files: readonly number[]): void;
  registerSparseBuffers(count: number): void;
  registerBufferRing(address: number, entries: number, group: number): void;
  close(): void;
}

type MakeRing = (entries: number, pollUs: number) => ThreadRing;
const kernelRing: MakeRing = (entries, pollUs) => new KernelRing(entries, QUEUE_RING_FLAGS, pollUs);

export interface Assembly {
  ring: ThreadRing;
  ios: QueueIo[];
  /** One more, behind those of the tags, for what is no request of the driver's. */
  spare: QueueIo;
  commands: Commands;
  /** Zeroed, page-aligned memory that goes with the thread; answers its address. */
  allocate(length: number): number;
  free(): void;
}

export function assemble(shape: ThreadShape, makeRing = kernelRing): Assembly {
  const arenas: Arena[] = [];
  const allocate = (length: number, place?: "remote"): number => {
    const arena = new Arena(length, place);
    arenas.push(arena);
    return arena.address;
  };
  const slots = shape.queues.reduce((sum, share) => sum + tagCount(share), 0);
  const registers = shape.mode.endsWith("zero-copy");
  // A slot has one command at a time; with registered buffers, an unregistration beside it.
  const reserved = slots * (registers ? 2 : 1) + 2 * shape.queues.length;
  const ring = makeRing(reserved * 2, shape.pollUs);
  if (ring.entries <= reserved) {
    const reason = `${slots} requests are too many for one thread`;
    const hint = "take a smaller --depth, or more --threads";
    throw new SysError({ op: "io_uring_setup", errno: EINVAL, reason, hint });
  }
  ring.registerFiles(shape.files);
  if (registers) ring.registerSparseBuffers(slots);
  const zeroes = allocate(Math.max(ZEROES_MAX, shape.maxIoBytes));
  const waits = new WaitTimes(slots);
  const shared = { ring, reserved, zeroes, zeroFile: shape.files.length - 1, waits };
  const ios: QueueIo[] = [];
  for (const share of shape.queues) {
    ios.push(...makeIos(shape, share, ios.length, shared, allocate));
  }
  const commands = makeCommands(shape, ring, ios, allocate);
  const spare = new CopyIo(slots, NO_TAG, NO_TAG, shared, 0);
  const free = (): void => {
    arenas.forEach((arena) => arena.free());
    waits.free();
  };
  return { ring, ios, spare, commands, allocate, free };
}

/** Buffers of a queue that take no more bytes than this are memory from the start. */
const TOUCHED_MAX = 4 << 20;

const NO_TAG = -1;

const tagCount = (share: QueueShare): number =>
  Math.ceil((share.depth - share.firstTag) / share.tagStep);

function makeIos(
  shape: ThreadShape,
  share: QueueShare,
  firstSlot: number,
  shared: IoShared,
  allocate: (length: number) => number,
): QueueIo[] {
  const count = tagCount(share);
  const buffers = allocate(count * shape.maxIoBytes);
  // Large ones are backed by the first IO that needs them. A disk that is swap must have its own
  // before that: no memory comes but through it.
  if (count * shape.maxIoBytes <= TOUCHED_MAX) libc.touchPages(buffers, count * shape.maxIoBytes);
  return Array.from({ length: count }, (_, index) => {
    const tag = share.firstTag + index * share.tagStep;
    const address = buffers + index * shape.maxIoBytes;
    return makeIo(shape, firstSlot + index, share.queueId, tag, shared, address);
  });
}

function makeIo(
  shape: ThreadShape,
  slot: number,
  queueId: number,
  tag: number,
  shared: IoShared,
  address: number,
): QueueIo {
  switch (shape.mode) {
    case "copy":
    case "get-data":
      return new CopyIo(slot, queueId, tag, shared, address);
    case "user-copy":
      return new UserCopyIo(slot, queueId, tag, shared, address);
    default: {
      const auto = shape.mode === "auto-zero-copy";
      const { zeroCopyMin, userCopy } = shape;
      const how = { auto, zeroCopyMin: userCopy ? zeroCopyMin : 0, userCopy };
      return new RegisteredIo(slot, queueId, tag, shared, address, how);
    }
  }
}

function makeCommands(
  shape: ThreadShape,
  ring: ThreadRing,
  ios: QueueIo[],
  allocate: (length: number, place?: "remote") => number,
): Commands {
  const iods: Int32Array[] = [];
  for (const share of shape.queues) {
    iods[share.queueId] = wordsAt(share.iodsAddress, share.iodsLength);
  }
  if (!shape.batch) return new TagCommands(ring, ios, iods);
  const hasAddress = shape.mode === "copy";
  const queues = shape.queues.map((share, group) => {
    const queue = new BatchQueue(share.queueId, share.depth, hasAddress, allocate);
    ring.registerBufferRing(queue.ringAddress, FETCH_BUFFERS, group);
    return queue;
  });
  return new BatchCommands(ring, ios, iods, queues, shape.mode === "auto-zero-copy");
}
