/** Copy on write: what a request does not bring itself is fetched from where it was. */

import { type Coroutine, type Io, PIECES_MAX, ZEROES_MAX } from "../../src/target/target.ts";
import type { Span } from "./plan.ts";
import type { Layer } from "./read.ts";
import type { Store } from "./store.ts";
import type { Workspaces } from "./workspace.ts";

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
      const zero = this.#store.reader.isZero(this.#top, guest + from, to - from);
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

  *#copy(io: Io, guest: number, host: number, length: number): Coroutine {
    const workspace = yield* this.#workspaces.acquire();
    try {
      const { reader, dataFile } = this.#store;
      const failure = yield* reader.read(io, this.#top, guest, length, workspace.address, 0);
      if (failure < 0) return failure;
      io.writeMeta(dataFile, host, workspace.address, length);
      return yield;
    } finally {
      this.#workspaces.release(workspace);
    }
  }
}
