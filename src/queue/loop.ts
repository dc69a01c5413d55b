// hot
/**
 * The life of an IO: wait, requestArrived, targetIoDone, commit.
 *
 * The stages never call each other; every branch of a request's life is on this screen. A
 * request that arrives is committed exactly once.
 */

import { EBUSY, EIO, EOPNOTSUPP, ETIME, SysError } from "../../ffi/errno.ts";
import type { Ring } from "../../ffi/io_uring.ts";
import { UBLK_IO_F_SWAP, UBLK_IO_RES_ABORT } from "../../ffi/ublk_cmd.ts";
import { type Handlers, OP_READ, OP_WRITE, QUEUED, SLOW } from "../target/target.ts";
import type { Commands } from "./commands.ts";
import type { QueueIo } from "./io.ts";
import { sizeIn } from "./message.ts";
import { Tally } from "./tally.ts";
import {
  expectedOf,
  KIND_COMMAND,
  KIND_REGISTER,
  KIND_RESIZE,
  KIND_TARGET,
  KIND_WAIT,
  kindOf,
} from "./user_data.ts";

/** No operation of the driver's: those are 8 bits. */
const OP_RESIZE = 0x100;
/** How often the kernel may put off the last commits before we leave without. */
const SUBMIT_TRIES_MAX = 1000;

/** Told of what must not happen and did: a handler that threw. */
export type Complain = (error: unknown, io: QueueIo) => void;

/** The place for what is no request of the driver's, and who is told what goes on beside these. */
export interface Spare {
  io: QueueIo;
  /** Once: a page of memory is swapped, so the disk is where memory comes from. */
  swaps(): void;
  /** 0 or -errno. */
  resized(failure: number): void;
}

export class Loop {
  readonly #ring: Ring;
  readonly #ios: readonly QueueIo[];
  readonly #commands: Commands;
  readonly #handlers: Handlers;
  readonly #complain: Complain;
  readonly #tally: Tally;
  readonly #spare: Spare | undefined;
  /** Woken while another request ran; they run when it has had its turn. */
  readonly #runnable: QueueIo[];
  /** Requests that have arrived and are not committed yet. */
  #busy = 0;
  #aborted = false;
  #isSwap = false;
  /** The driver refused a command: 0 or -errno. */
  #refused = 0;

  constructor(
    ring: Ring,
    ios: readonly QueueIo[],
    commands: Commands,
    handlers: Handlers,
    runnable: QueueIo[],
    complain: Complain,
    tally = new Tally(ios.length),
    spare?: Spare,
  ) {
    this.#ring = ring;
    this.#ios = ios;
    this.#commands = commands;
    this.#handlers = handlers;
    this.#runnable = runnable;
    this.#complain = complain;
    this.#tally = tally;
    this.#spare = spare;
  }

  /**
   * Serves until the driver aborts the tags. Answers 0, or -errno when the ring or the driver
   * refused us.
   *
   * One abort is enough to leave: under STOP_DEV no request is left by then, and under
   * QUIESCE_DEV the tags in our hands are committed but never aborted.
   */
  run(): number {
    this.#commands.begin();
    for (;;) {
      const isFlushed = this.#commands.flush();
      if (this.#aborted && this.#busy === 0 && !this.#commands.holding()) break;
      this.#tally.rest(this.#busy);
      const failure = isFlushed ? this.#ring.submitAndWait() : this.#ring.submit();
      if (failure < 0) return failure;
      this.#tally.wake();
      this.#reap();
      this.#runWoken();
      if (this.#refused < 0) return this.#refused;
    }
    return this.#submitAll();
  }

  /** The last commits. Somebody waits for each, and the kernel may not take all at once. */
  #submitAll(): number {
    let left = this.#ring.submit();
    for (let tries = 0; left > 0 && tries < SUBMIT_TRIES_MAX; tries++) left = this.#ring.submit();
    return left > 0 ? -EBUSY : left;
  }

  #reap(): void {
    const ring = this.#ring;
    for (let ready = ring.cqReady(); ready > 0; ready--) {
      const slot = ring.cqSlot();
      const meta = ring.cqMeta();
      const res = ring.cqRes();
      const flags = ring.cqFlags();
      ring.cqAdvance();
      const kind = kindOf(meta);
      if (kind === KIND_TARGET) this.#targetIoDone(this.#ios[slot]!, expectedOf(meta), res);
      else if (kind === KIND_COMMAND) this.#commandDone(slot, res, flags);
      else if (kind === KIND_REGISTER) this.#bufferRegistered(this.#ios[slot]!, res);
      else if (kind === KIND_WAIT) this.#waited(this.#ios[slot]!, res);
      else if (kind === KIND_RESIZE) this.#resize(sizeIn(slot, res));
      else this.#refused = res; // a buffer that cannot be unregistered: its request never ends
    }
  }

  #commandDone(slot: number, res: number, flags: number): void {
    const count = this.#commands.done(slot, res, flags);
    if (count === UBLK_IO_RES_ABORT) this.#aborted = true;
    else if (count < 0) this.#refused = count;
    for (let index = 0; index < count; index++) {
      this.#requestArrived(this.#ios[this.#commands.arrived(index)]!);
    }
  }

  #requestArrived(io: QueueIo): void {
    this.#busy++;
    this.#tally.arrived(io.slot);
    this.#commands.load(io);
    if ((io.flags & UBLK_IO_F_SWAP) !== 0 && !this.#isSwap) this.#becomesSwap();
    if (io.mustRegister) this.#commands.registerBuffer(io);
    else this.#handle(io);
  }

  #becomesSwap(): void {
    this.#isSwap = true;
    this.#spare?.swaps();
  }

  /** A buffer that cannot be registered is no reason to fail where bytes can also be copied. */
  #bufferRegistered(io: QueueIo, res: number): void {
    if (res >= 0) io.mustUnregister = true;
    else if (!io.copyInstead()) return this.#commit(io, res);
    this.#handle(io);
  }

  /**
   * Beside the requests, as one of them: the thread does not end before it has ended. One at a
   * time, to which `Thread.resize` sees.
   */
  #resize(size: number): void {
    const io = this.#spare!.io;
    io.begin(OP_RESIZE, 0, 0, 0);
    this.#busy++;
    if (this.#handlers.resize === undefined) {
      this.#commit(io, 0);
      return;
    }
    io.coroutine = this.#handlers.resize(io, size);
    this.#resume(io);
  }

  #targetIoDone(io: QueueIo, expected: number, res: number): void {
    if (!io.pieceDone(expected, res)) return;
    if (io.coroutine === null) this.#end(io);
    else this.#resume(io);
  }

  /** -ETIME is what a wait that came to its end answers. */
  #waited(io: QueueIo, res: number): void {
    this.#targetIoDone(io, 0, res === -ETIME ? 0 : res);
  }

  #handle(io: QueueIo): void {
    try {
      const verdict = this.#handlers.queueIo(io);
      if (verdict === QUEUED) this.#endIfIdle(io);
      else if (verdict === SLOW) this.#startCoroutine(io);
      else this.#commit(io, verdict);
    } catch (error) {
      this.#handlerThrew(io, error);
    }
  }

  /** Those that are woken meanwhile come to the end of the row. */
  #runWoken(): void {
    const runnable = this.#runnable;
    for (let next = 0; next < runnable.length; next++) this.#resume(runnable[next]!);
    runnable.length = 0;
  }

  /** Nothing in flight means that no SQE could be queued: the failure says why. */
  #endIfIdle(io: QueueIo): void {
    if (io.inFlight === 0) this.#end(io);
  }

  #end(io: QueueIo): void {
    this.#commit(io, io.failure < 0 ? io.failure : bytesDone(io));
  }

  #startCoroutine(io: QueueIo): void {
    if (this.#handlers.runIo === undefined) {
      this.#commit(io, -EOPNOTSUPP);
      return;
    }
    io.coroutine = this.#handlers.runIo(io);
    this.#resume(io);
  }

  #resume(io: QueueIo): void {
    try {
      const verdict = this.#runCoroutine(io);
      if (verdict === SLOW) return;
      io.coroutine = null;
      this.#commit(io, verdict === QUEUED ? bytesDone(io) : verdict);
    } catch (error) {
      this.#handlerThrew(io, error);
    }
  }

  /** Until it waits for something that is not there yet (SLOW), or returns its verdict. */
  #runCoroutine(io: QueueIo): number {
    do {
      const failure = io.failure;
      io.restart();
      const step = io.coroutine!.next(failure);
      if (step.done) return step.value;
      if (step.value !== undefined) {
        step.value.park(io);
        return SLOW;
      }
    } while (io.inFlight === 0);
    return SLOW;
  }

  #handlerThrew(io: QueueIo, error: unknown): void {
    this.#complain(error, io);
    io.coroutine = null;
    io.failure = error instanceof SysError && error.errno > 0 ? -error.errno : -EIO;
    this.#endIfIdle(io);
  }

  #commit(io: QueueIo, result: number): void {
    this.#busy--;
    this.#handlers.ioDone?.(io);
    if (io.op === OP_RESIZE) {
      this.#spare!.resized(result);
      return;
    }
    this.#tally.done(io.slot, io.op, io.length, result);
    if (io.mustUnregister) this.#commands.unregisterBuffer(io);
    this.#commands.commit(io, result);
  }
}

/** A READ or WRITE answers its length; anything else, which may exceed an int, answers 0. */
function bytesDone(io: QueueIo): number {
  return io.op === OP_READ || io.op === OP_WRITE ? io.length : 0;
}
