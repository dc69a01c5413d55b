// hot
/**
 * The same interface by PREP_IO_CMDS, COMMIT_IO_CMDS and FETCH_IO_CMDS (Linux 7.0): one command
 * brings many tags, one command returns many results.
 *
 * FETCH_IO_CMDS completes again and again, each time with tags in a buffer of a ring. Results
 * gather over a turn. A commit that is taken only in part goes on with the rest.
 */

import { ENOBUFS } from "../../ffi/errno.ts";
import {
  highHalf,
  IORING_CQE_BUFFER_SHIFT,
  IORING_CQE_F_BUF_MORE,
  IORING_CQE_F_MORE,
  lowHalf,
  makeMultishot,
  prepCommand,
  type Ring,
  setUserData,
  skipSuccess,
  SQE_CMD,
} from "../../ffi/io_uring.ts";
import {
  BATCH_NR_ELEM_BYTES,
  BATCH_QID_FLAGS,
  UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK,
  UBLK_BATCH_F_HAS_BUF_ADDR,
  UBLK_U_IO_COMMIT_IO_CMDS,
  UBLK_U_IO_FETCH_IO_CMDS,
  UBLK_U_IO_PREP_IO_CMDS,
} from "../../ffi/ublk_cmd.ts";
import type { BatchQueue } from "./batch_queue.ts";
import { CHAR_DEVICE, Commands, type Iods } from "./commands.ts";
import type { QueueIo } from "./io.ts";
import { KIND_COMMAND, userMeta } from "./user_data.ts";

/** The low word of a command's user_data: what it was, and for which of the thread's queues. */
const FETCH = 0;
const COMMIT = 1 << 16;
const PREP = 2 << 16;
const QUEUE_MASK = 0xffff;
const TAG_BYTES = 2;

export class BatchCommands extends Commands {
  readonly #queues: readonly BatchQueue[];
  /** The thread's queues by the driver's number. */
  readonly #byId: BatchQueue[] = [];
  readonly #flags: number;
  #arrivedIn: BatchQueue;

  /** `queues`: at the index that is also their group of fetch buffers. */
  constructor(
    ring: Ring,
    ios: readonly QueueIo[],
    iods: Iods,
    queues: readonly BatchQueue[],
    auto: boolean,
  ) {
    super(ring, ios, iods);
    this.#queues = queues;
    this.#arrivedIn = queues[0]!;
    for (const queue of queues) this.#byId[queue.queueId] = queue; // once
    for (const io of ios) this.#byId[io.queueId]!.slots[io.tag] = io.slot; // once
    const hasAddress = ios[0]!.commandAddress !== 0;
    this.#flags =
      (hasAddress ? UBLK_BATCH_F_HAS_BUF_ADDR : 0) |
      (auto ? UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK : 0);
  }

  /** All tags of a queue are handed over by one PREP_IO_CMDS. */
  begin(): void {
    const ios = this.ios;
    for (let slot = 0; slot < ios.length; slot++) this.commit(ios[slot]!, 0);
    for (let index = 0; index < this.#queues.length; index++) {
      this.#queues[index]!.swap();
      this.#send(index, UBLK_U_IO_PREP_IO_CMDS, PREP);
    }
    this.flush();
  }

  done(id: number, res: number, flags: number): number {
    const queue = this.#queues[id & QUEUE_MASK]!;
    const what = id & ~QUEUE_MASK;
    if (what !== FETCH) return sent(queue, res, what);
    // Aborted: there is nothing to fetch any more.
    if (res < 0 && res !== -ENOBUFS) return res;
    if ((flags & IORING_CQE_F_MORE) === 0) queue.mustFetch = true;
    if (res === -ENOBUFS) return 0;
    this.#arrivedIn = queue;
    const goesOn = (flags & IORING_CQE_F_BUF_MORE) !== 0;
    return queue.tagsArrived(flags >>> IORING_CQE_BUFFER_SHIFT, res, goesOn);
  }

  arrived(index: number): number {
    return this.#arrivedIn.arrived(index);
  }

  commit(io: QueueIo, result: number): void {
    this.#byId[io.queueId]!.gather(io, result);
  }

  flush(): boolean {
    let done = true;
    for (let index = 0; index < this.#queues.length; index++) {
      const queue = this.#queues[index]!;
      queue.returnBuffers();
      if (queue.silent && this.ring.drained) queue.taken();
      if (queue.gathered > 0 && !queue.sending) queue.swap();
      if (queue.mustSend) this.#commit(index);
      if (queue.mustFetch) this.#fetch(index);
      // No completion will tell when the silent one has been taken.
      if (queue.silent && queue.gathered > 0) done = false;
    }
    return done;
  }

  holding(): boolean {
    for (let index = 0; index < this.#queues.length; index++) {
      const queue = this.#queues[index]!;
      if (queue.gathered > 0 || (queue.sending && !queue.silent)) return true;
    }
    return false;
  }

  /** One result is taken or fails, never in part: its completion would only wake us for nothing. */
  #commit(index: number): void {
    const queue = this.#queues[index]!;
    const sqe = this.#send(index, UBLK_U_IO_COMMIT_IO_CMDS, COMMIT);
    queue.silent = queue.sendTo - queue.sendFrom === queue.elemSize;
    if (queue.silent) skipSuccess(this.ring.sqes, sqe);
  }

  #send(index: number, cmdOp: number, what: number): number {
    const queue = this.#queues[index]!;
    queue.mustSend = false;
    const bytes = queue.sendTo - queue.sendFrom;
    const sqe = this.ring.nextSqe();
    const sqes = this.ring.sqes;
    const address = queue.sendAddress;
    prepCommand(sqes, sqe, CHAR_DEVICE, cmdOp, lowHalf(address), highHalf(address), bytes);
    sqes[sqe + SQE_CMD + BATCH_QID_FLAGS] = queue.queueId | (this.#flags << 16);
    sqes[sqe + SQE_CMD + BATCH_NR_ELEM_BYTES] = (bytes / queue.elemSize) | (queue.elemSize << 16);
    setUserData(sqes, sqe, what | index, userMeta(KIND_COMMAND, 0));
    return sqe;
  }

  #fetch(index: number): void {
    const queue = this.#queues[index]!;
    queue.mustFetch = false;
    const sqe = this.ring.nextSqe();
    const sqes = this.ring.sqes;
    prepCommand(sqes, sqe, CHAR_DEVICE, UBLK_U_IO_FETCH_IO_CMDS, 0, 0, 0);
    makeMultishot(sqes, sqe, index);
    sqes[sqe + SQE_CMD + BATCH_QID_FLAGS] = queue.queueId;
    sqes[sqe + SQE_CMD + BATCH_NR_ELEM_BYTES] = queue.slots.length | (TAG_BYTES << 16);
    setUserData(sqes, sqe, FETCH | index, userMeta(KIND_COMMAND, 0));
  }
}

/** PREP answers 0, COMMIT the bytes that were taken; -errno when nothing was. */
function sent(queue: BatchQueue, res: number, what: number): number {
  if (res < 0) return res;
  if (what === COMMIT) queue.sendFrom += res;
  else queue.sendFrom = queue.sendTo;
  if (queue.sendFrom < queue.sendTo) queue.mustSend = true;
  else queue.sending = false;
  return 0;
}
