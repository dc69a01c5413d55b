/** Copy on write: what a request does not bring itself is fetched from where it was. */

import { type Coroutine, type Io, PIECES_MAX, ZEROES_MAX } from "../../src/target/target.ts";
import type { Span } from "./plan.ts";
import type { Layer } from "./read.ts";
import type { Store } from "./store.ts";
import type { Workspaces } from "./workspace.ts";

/** Instead of a position in the request: the bytes are zeros, which it does not carry. */
export const NO_BYTES = -1;

export class Fill {
  readonly #store: Store;
  readonly #top: Layer;
  readonly #workspaces: Workspaces;

  /** `workspaces`: of one cluster. */
  constructor(store: Store, top: Layer, workspaces: Workspaces) {
    this.#store = store;
    this.#top = top;
    this.#workspaces = workspaces;
  }

  /**
   * Brings spans of the cluster at `guest` to `host`. `fresh`: zeros are there already. Answers
   * how far into the cluster something was written, or -errno.
   */
  *spans(io: Io, guest: number, host: number, spans: Span[], fresh: boolean): Coroutine {
    let reached = 0;
    for (const { from, to } of spans) {
      // A hole reads zeros, and then not those that were encrypted.
      const plain = this.#top.cipher === undefined;
      const zero = plain && this.#store.reader.isZero(this.#top, guest + from, to - from);
      if (zero && fresh) continue;
      const failure = zero
        ? yield* this.zeroes(io, host + from, to - from)
        : yield* this.#copy(io, guest + from, host + from, to - from);
      if (failure < 0) return failure;
      reached = to;
    }
    return reached;
  }

  *zeroes(io: Io, host: number, length: number): Coroutine {
    if (this.#top.cipher !== undefined) return yield* this.ciphered(io, host, NO_BYTES, length);
    let pieces = 0;
    for (let at = 0; at < length; at += ZEROES_MAX) {
      if (pieces === PIECES_MAX) {
        const failure = yield;
        if (failure < 0) return failure;
        pieces = 0;
      }
      io.writeZeroes(this.#store.dataFile, host + at, Math.min(ZEROES_MAX, length - at));
      pieces++;
    }
    return yield;
  }

  get isCiphered(): boolean {
    return this.#top.cipher !== undefined;
  }

  /** The request's bytes from `at` on, or zeros, to `host`, encrypted on the way. */
  *ciphered(io: Io, host: number, at: number, length: number): Coroutine {
    const workspace = yield* this.#workspaces.acquire();
    const { clusterSize, dataFile } = this.#store;
    try {
      for (let done = 0; done < length; done += clusterSize) {
        const count = Math.min(clusterSize, length - done);
        const bytes = workspace.bytes.subarray(0, count);
        if (at === NO_BYTES) bytes.fill(0);
        else {
          io.getBytes(at + done, workspace.address, count);
          const got = yield;
          if (got < 0) return got;
        }
        this.#top.cipher!.encrypt(bytes, host + done);
        io.writeMeta(dataFile, host + done, workspace.address, count);
        const failure = yield;
        if (failure < 0) return failure;
      }
      return 0;
    } finally {
      this.#workspaces.release(workspace);
    }
  }

  *#copy(io: Io, guest: number, host: number, length: number): Coroutine {
    const workspace = yield* this.#workspaces.acquire();
    try {
      const { reader, dataFile } = this.#store;
      const failure = yield* reader.read(io, this.#top, guest, length, workspace.address, 0);
      if (failure < 0) return failure;
      this.#top.cipher?.encrypt(workspace.bytes.subarray(0, length), host);
      io.writeMeta(dataFile, host, workspace.address, length);
      return yield;
    } finally {
      this.#workspaces.release(workspace);
    }
  }
}
