/** Memory for work on whole clusters: what is copied on write, and what is decompressed. */

import { bytesAt } from "../../src/target/memory.ts";
import { type Io, type QueueContext, WaitList } from "../../src/target/target.ts";

/** As a Coroutine, with an answer of its own. */
export type Task<T> = Generator<WaitList | undefined, T, number>;

export interface Workspace {
  address: number;
  bytes: Uint8Array;
  /** What is in it, for who comes next; -1 for nothing that can be used. */
  key: number;
}

/** A few workspaces of one size; whoever finds none waits. Backed when first used. */
export class Workspaces {
  readonly #allocate: (length: number) => number;
  readonly #length: number;
  readonly #idle: Workspace[] = [];
  readonly #freed: WaitList;
  #unmade: number;

  constructor(context: QueueContext, count: number, length: number) {
    this.#allocate = (bytes) => context.allocate(bytes);
    this.#unmade = count;
    this.#length = length;
    this.#freed = new WaitList(context.runnable as Io[]);
  }

  /** One that has `key` in it where there is one. */
  *acquire(key = -1): Task<Workspace> {
    for (;;) {
      const same = key < 0 ? -1 : this.#idle.findIndex((one) => one.key === key);
      if (same >= 0) return this.#idle.splice(same, 1)[0]!;
      if (this.#unmade > 0) {
        this.#unmade--;
        const address = this.#allocate(this.#length);
        return { address, bytes: bytesAt(address, this.#length), key: -1 };
      }
      // The oldest: others may still be asked for what they have.
      const oldest = this.#idle.shift();
      if (oldest !== undefined) return oldest;
      yield this.#freed;
    }
  }

  release(workspace: Workspace): void {
    this.#idle.push(workspace);
    this.#freed.wakeAll();
  }
}
