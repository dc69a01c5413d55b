// hot
/**
 * The life of an IO: wait, requestArrived, targetIoDone, commit.
 *
 * The stages never call each other; every branch of a request's life is on this screen. A
 * request that arrives is committed exactly once.
 */

import { EIO, EOPNOTSUPP, SysError } from "../../ffi/errno.ts";
import type { Ring } from "../../ffi/io_uring.ts";
import { UBLK_IO_RES_ABORT, UBLK_IO_RES_OK } from "../../ffi/ublk_cmd.ts";
import { type Handlers, OP_READ, OP_WRITE, QUEUED, SLOW } from "../target/target.ts";
import type { TagCommands } from "./commands.ts";
import { expectedOf, KIND_COMMAND, kindOf, type QueueIo } from "./io.ts";

/** Told of what must not happen and did: a handler that threw. */
export type Complain = (error: unknown) => void;

export class Loop {
  readonly #ring: Ring;
  readonly #ios: readonly QueueIo[];
  readonly #commands: TagCommands;
  readonly #handlers: Handlers;
  readonly #complain: Complain;
  /** Woken while another request ran; they run when it has had its turn. */
  readonly #runnable: QueueIo[];
  /** Requests that have arrived and are not committed yet. */
  #busy = 0;
  #aborted = false;
  /** The driver refused a command: 0 or -errno. */
  #refused = 0;

  constructor(
    ring: Ring,
    ios: readonly QueueIo[],
    commands: TagCommands,
    handlers: Handlers,
    runnable: QueueIo[],
    complain: Complain,
  ) {
    this.#ring = ring;
    this.#ios = ios;
    this.#commands = commands;
    this.#handlers = handlers;
    this.#runnable = runnable;
    this.#complain = complain;
  }

  /** Queues the first FETCH of each tag; they leave with the first turn of `run`. */
  fetchAll(): void {
    const ios = this.#ios;
    for (let slot = 0; slot < ios.length; slot++) this.#commands.fetch(ios[slot]!);
  }

  /**
   * Serves until the driver aborts the tags. Answers 0, or -errno when the ring or the driver
   * refused us.
   *
   * One abort is enough to leave: under STOP_DEV no request is left by then, and under
   * QUIESCE_DEV the tags in our hands are committed but never aborted.
   */
  run(): number {
    while (!this.#aborted || this.#busy > 0) {
      const failure = this.#ring.submitAndWait();
      if (failure < 0) return failure;
      this.#reap();
      this.#runWoken();
      if (this.#refused < 0) return this.#refused;
    }
    return this.#ring.submit();
  }

  #reap(): void {
    const ring = this.#ring;
    for (let ready = ring.cqReady(); ready > 0; ready--) {
      const io = this.#ios[ring.cqSlot()]!;
      const meta = ring.cqMeta();
      const res = ring.cqRes();
      ring.cqAdvance();
      try {
        if (kindOf(meta) !== KIND_COMMAND) this.#targetIoDone(io, expectedOf(meta), res);
        else if (res === UBLK_IO_RES_OK) this.#requestArrived(io);
        else if (res === UBLK_IO_RES_ABORT) this.#aborted = true;
        else this.#refused = res;
      } catch (error) {
        this.#handlerThrew(io, error);
      }
    }
  }

  /** Those that are woken meanwhile come to the end of the row. */
  #runWoken(): void {
    const runnable = this.#runnable;
    for (let next = 0; next < runnable.length; next++) {
      const io = runnable[next]!;
      try {
        this.#resume(io);
      } catch (error) {
        this.#handlerThrew(io, error);
      }
    }
    runnable.length = 0;
  }

  #requestArrived(io: QueueIo): void {
    this.#busy++;
    this.#commands.load(io);
    const verdict = this.#handlers.queueIo(io);
    if (verdict >= 0) this.#commit(io, verdict);
    else if (verdict === QUEUED) this.#endIfIdle(io);
    else if (verdict === SLOW) this.#startCoroutine(io);
    else this.#commit(io, verdict);
  }

  #targetIoDone(io: QueueIo, expected: number, res: number): void {
    if (!io.pieceDone(expected, res)) return;
    if (io.coroutine === null) this.#end(io);
    else this.#resume(io);
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

  /** Runs a coroutine until it waits for something that is not there yet, or ends. */
  #resume(io: QueueIo): void {
    do {
      const failure = io.failure;
      io.restart();
      const step = io.coroutine!.next(failure);
      if (step.done) {
        io.coroutine = null;
        this.#commit(io, step.value === QUEUED ? bytesDone(io) : step.value);
        return;
      }
      if (step.value !== undefined) {
        step.value.park(io);
        return;
      }
    } while (io.inFlight === 0);
  }

  #handlerThrew(io: QueueIo, error: unknown): void {
    this.#complain(error);
    io.coroutine = null;
    io.failure = error instanceof SysError && error.errno > 0 ? -error.errno : -EIO;
    this.#endIfIdle(io);
  }

  #commit(io: QueueIo, result: number): void {
    this.#busy--;
    this.#commands.commit(io, result);
  }
}

/** A READ or WRITE answers its length; anything else, which may exceed an int, answers 0. */
function bytesDone(io: QueueIo): number {
  return io.op === OP_READ || io.op === OP_WRITE ? io.length : 0;
}
