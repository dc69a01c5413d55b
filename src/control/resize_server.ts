/**
 * A disk of another size, in the server: its part of the order that resize.ts keeps.
 *
 * Grown, the backing and the threads are ready before the block device shows it; shrunk, they
 * follow. The command sends UPDATE_SIZE in between, not we: it waits for the driver's mutex in a
 * kernel thread that shares the sender's files, and STOP_DEV has that mutex while it waits for us.
 */

import { EBUSY, EINVAL, EIO, EOPNOTSUPP, SysError } from "../../ffi/errno.ts";
import type { OpenDisk, Resizer } from "../target/target.ts";
import type { Listener } from "./mailbox.ts";
import { readState, writeState } from "./state.ts";
import type { Thread } from "./threads.ts";

/** From the command, in this order. Sizes are bytes; `from` is what the driver has now. */
export type ResizeQuestion =
  | { ask: "resize"; from: number; to?: number; shrink: boolean }
  | { ask: "resized"; from: number; to: number; shrink: boolean };
/** To the first one; the second one has none. */
export interface ResizeAnswer {
  to: number;
}

export class ResizeServer {
  readonly #id: number;
  readonly #resizer: Resizer | undefined;
  /** Of the device, in bytes. */
  readonly #block: number;
  readonly #threads: readonly Pick<Thread, "resize">[];
  /**
   * One at a time, from its first question until it has gone and its last one is answered: the
   * threads go on with that, whether or not somebody waits for it.
   */
  #current: Listener | undefined;

  constructor(id: number, open: OpenDisk, threads: readonly Pick<Thread, "resize">[]) {
    this.#id = id;
    this.#resizer = open.resizer;
    this.#block = 2 ** open.disk.blockBits;
    this.#threads = threads;
  }

  welcome(): Listener {
    let isAsking = false;
    let hasGone = false;
    const leave = (): void => {
      if (hasGone && !isAsking && this.#current === listener) this.#current = undefined;
    };
    const listener: Listener = {
      answer: async (question) => {
        isAsking = true;
        return await this.#answer(listener, question as ResizeQuestion).finally(() => {
          isAsking = false;
          leave();
        });
      },
      gone: () => {
        hasGone = true;
        leave();
      },
    };
    return listener;
  }

  async #answer(listener: Listener, question: ResizeQuestion): Promise<ResizeAnswer | undefined> {
    const resizer = this.#resizer;
    if (question.ask !== "resize" && question.ask !== "resized") {
      throw this.#refused(EOPNOTSUPP, "its server does not know that question");
    }
    if (resizer === undefined) throw this.#refused(EOPNOTSUPP, "its disk has one size for ever");
    if (this.#current !== undefined && this.#current !== listener) {
      throw this.#refused(EBUSY, "is being resized already");
    }
    this.#current = listener;
    if (question.ask === "resize") return await this.#prepare(resizer, question);
    await this.#finish(resizer, question);
    return undefined;
  }

  async #prepare(resizer: Resizer, { from, to, shrink }: ResizeQuestion): Promise<ResizeAnswer> {
    const size = to ?? resizer.found(this.#block);
    if (size === undefined) {
      throw this.#refused(EINVAL, "its backing does not say a size", "say which: --size SIZE");
    }
    if (size < from && !shrink) {
      const reason = `has ${from} bytes, and ${size} are fewer`;
      throw this.#refused(EINVAL, reason, "--shrink does it; what is behind the new end is lost");
    }
    resizer.check(from, size, this.#block);
    if (!isShrinking(from, size, shrink)) {
      resizer.apply(from, size, this.#block);
      await this.#tell(size);
    }
    return { to: size };
  }

  async #finish(resizer: Resizer, question: ResizeQuestion & { ask: "resized" }): Promise<void> {
    const { from, to, shrink } = question;
    const state = readState(this.#id);
    if (state !== undefined) {
      const target = { ...state.target, config: resizer.config(to) };
      writeState({ ...state, target, report: { ...state.report, dev_size: to } });
    }
    if (!isShrinking(from, to, shrink)) return;
    await this.#tell(to);
    resizer.apply(from, to, this.#block);
  }

  async #tell(size: number): Promise<void> {
    const failures = await Promise.all(this.#threads.map((thread) => thread.resize(size)));
    const failure = failures.find((one) => one < 0);
    if (failure !== undefined) throw this.#refused(-failure);
  }

  #refused(errno: number, reason?: string, hint?: string): SysError {
    const facts = { op: "resize", errno: errno || EIO, subject: `device ${this.#id}` };
    const why = reason === undefined ? facts : { ...facts, reason };
    return new SysError(hint === undefined ? why : { ...why, hint });
  }
}

/** Also again, where a shrinking did not come to its end. */
function isShrinking(from: number, to: number, shrink: boolean): boolean {
  return shrink && to <= from;
}
