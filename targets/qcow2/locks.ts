/** Who works on which guest clusters, one at a time on each; and how many do something at once. */

import { type Io, WaitList } from "../../src/target/target.ts";
import type { Task } from "./workspace.ts";

export interface RangeLock {
  first: number;
  last: number;
}

export class RangeLocks {
  readonly #held: RangeLock[] = [];
  readonly #released: WaitList;
  readonly #max: number;

  /** `max`: how many may be held at once, so that the table cache has room for all of them. */
  constructor(runnable: Io[], max: number) {
    this.#released = new WaitList(runnable);
    this.#max = max;
  }

  *lock(first: number, last: number): Task<RangeLock> {
    while (this.#held.length >= this.#max || this.#isTaken(first, last)) yield this.#released;
    const lock = { first, last };
    this.#held.push(lock);
    return lock;
  }

  #isTaken(first: number, last: number): boolean {
    return this.#held.some((held) => held.first <= last && first <= held.last);
  }

  unlock(lock: RangeLock): void {
    this.#held.splice(this.#held.indexOf(lock), 1);
    this.#released.wakeAll();
  }
}

/** So many at a time: one, where nothing else is said. */
export class Gate {
  readonly #left: WaitList;
  readonly #max: number;
  #inside = 0;

  constructor(runnable: Io[], max = 1) {
    this.#left = new WaitList(runnable);
    this.#max = max;
  }

  *enter(): Task<void> {
    while (this.#inside >= this.#max) yield this.#left;
    this.#inside++;
  }

  leave(): void {
    this.#inside--;
    this.#left.wakeAll();
  }
}
