/** Chance out of a seed: the same seed tells the same story. */

const TWO_32 = 2 ** 32;

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 32 random bits (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let bits = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return (bits ^ (bits >>> 14)) >>> 0;
  }

  /** 0 … below - 1. */
  int(below: number): number {
    return Math.floor((this.next() / TWO_32) * below);
  }

  chance(probability: number): boolean {
    return this.next() / TWO_32 < probability;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.int(list.length)]!;
  }

  /** Takes one element out of a list that is not empty. */
  take<T>(list: T[]): T {
    return list.splice(this.int(list.length), 1)[0]!;
  }
}
