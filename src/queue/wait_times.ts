// hot
/** How long requests wait: a struct __kernel_timespec a slot, where the kernel can read it. */

import { Arena, wordsAt } from "../../ffi/arena.ts";

const TIMESPEC_WORDS = 4;
const WORD = 4;
const TWO_32 = 2 ** 32;
const SECOND_US = 1_000_000;
const MICROSECOND_NS = 1000;

export class WaitTimes {
  readonly #arena: Arena;
  readonly #words: Int32Array;

  constructor(slots: number) {
    this.#arena = new Arena(slots * TIMESPEC_WORDS * WORD);
    this.#words = wordsAt(this.#arena.address, this.#arena.length);
  }

  /** Answers the address. The kernel reads it when it takes the SQE. */
  set(slot: number, microseconds: number): number {
    const at = slot * TIMESPEC_WORDS;
    const seconds = Math.floor(microseconds / SECOND_US);
    this.#words[at] = seconds;
    this.#words[at + 1] = seconds / TWO_32;
    this.#words[at + 2] = (microseconds - seconds * SECOND_US) * MICROSECOND_NS;
    this.#words[at + 3] = 0;
    return this.#arena.address + at * WORD;
  }

  free(): void {
    this.#arena.free();
  }
}
