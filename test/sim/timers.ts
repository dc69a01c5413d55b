/** Waits, which end in any order: IORING_OP_TIMEOUT as io_uring/timeout.c reads it. */

import { EINVAL, ETIME } from "./errno.ts";
import type { Memory } from "./memory.ts";
import type { Random } from "./random.ts";
import type { Done } from "./ring.ts";
import type { Sqe } from "./sqe.ts";

export const TIMEOUT = 11;
const TIMESPEC_SIZE = 16;
const SECOND_NS = 1_000_000_000n;

export class SimTimers {
  /** Nanoseconds of every wait that was asked for. */
  readonly asked: number[] = [];
  readonly #memory: Memory;
  readonly #random: Random;
  readonly #pending: Done[] = [];

  constructor(memory: Memory, random: Random) {
    this.#memory = memory;
    this.#random = random;
  }

  submit(sqe: Sqe, done: Done): void {
    const { bufIndex, length, fileIndex, offset, opFlags, command } = sqe;
    const rest = command.getBigUint64(0, true) | command.getBigUint64(8, true);
    if (bufIndex || length !== 1 || fileIndex || offset || opFlags || rest) {
      done(-EINVAL);
      return;
    }
    const bytes = this.#memory.source(sqe.address, TIMESPEC_SIZE);
    const time = new DataView(bytes.buffer, bytes.byteOffset, TIMESPEC_SIZE);
    const [seconds, nanoseconds] = [time.getBigInt64(0, true), time.getBigInt64(8, true)];
    if (seconds < 0n || nanoseconds < 0n || nanoseconds >= SECOND_NS) {
      done(-EINVAL);
      return;
    }
    this.asked.push(Number(seconds * SECOND_NS + nanoseconds));
    this.#pending.push(done);
  }

  ready(): number {
    return this.#pending.length;
  }

  fire(): void {
    this.#random.take(this.#pending)(-ETIME);
  }
}
