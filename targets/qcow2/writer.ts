/** Every way of changing an image. The order of the steps is told in README.md. */

import { EIO, SysError } from "../../src/target/file_io.ts";
import {
  type Coroutine,
  FLAG_FUA,
  FLAG_NOUNMAP,
  type Io,
  type QueueContext,
} from "../../src/target/target.ts";
import { Allocator, type Release } from "./allocate.ts";
import { beginWriting } from "./begin.ts";
import type { ChainImage } from "./chain.ts";
import type { FastPath } from "./fast.ts";
import { Fill } from "./fill.ts";
import { findTables } from "./find_tables.ts";
import { Links } from "./link.ts";
import { RangeLocks } from "./locks.ts";
import type { Layer, Reader } from "./read.ts";
import { Resizes } from "./resize.ts";
import { RefcountTable } from "./refcount.ts";
import { Releases } from "./release.ts";
import { giveBackLeaks } from "./repair.ts";
import { Store } from "./store.ts";
import type { TableCache } from "./table_cache.ts";
import { Tables } from "./tables.ts";
import { Workspaces } from "./workspace.ts";
import { Writes } from "./write.ts";
import { DISCARD, KEEP, UNMAP, Zeroes } from "./zero.ts";

export interface WriterParts {
  context: QueueContext;
  cache: TableCache;
  fast: FastPath;
  reader: Reader;
  ends: Float64Array;
}

/** One request holds a slice of an L2 table and one of a refcount block, and may load others. */
const SLICES_PER_REQUEST = 8;
const COPIES_MAX = 4;
const COPY_BYTES = 8 << 20;
/** So many clusters wait to be freed at the most before a request frees some on its way. */
const RELEASED_MAX = 4096;

export class Writer {
  readonly #store: Store;
  readonly #fast: FastPath;
  readonly #releases: Releases;
  readonly #allocator: Allocator;
  readonly #writes: Writes;
  readonly #zeroes: Zeroes;
  readonly #resizes: Resizes;
  readonly #recovering: boolean;
  readonly #log: QueueContext["log"];
  /** Why nothing at all may be written. */
  readonly #danger: string | undefined;
  #begun = false;

  constructor(chain: ChainImage, top: Layer, parts: WriterParts) {
    const { context, cache } = parts;
    const header = chain.header!;
    const mapping = top.mapping!;
    this.#fast = parts.fast;
    this.#recovering = context.recovering === true;
    this.#log = context.log;
    this.#store = new Store({ ...parts, mapping, header, image: chain.file });
    const table = new RefcountTable(header, chain.file, context);
    this.#danger = findTables(chain.file, header, mapping, table);
    this.#releases = new Releases(this.#store, table);
    const release: Release = (cluster, count) => this.#releases.release(cluster, count);
    const allocator = new Allocator(this.#store, table, release, chain.file.limit);
    this.#allocator = allocator;
    const copies = Math.max(1, Math.min(COPIES_MAX, COPY_BYTES / header.clusterSize));
    const workspaces = new Workspaces(context, copies, header.clusterSize);
    const tables = new Tables(this.#store, allocator, workspaces, release);
    const links = new Links(this.#store, release);
    const locksMax = Math.max(1, Math.floor(cache.slots / SLICES_PER_REQUEST));
    const locks = new RangeLocks(context.runnable, locksMax);
    const fill = new Fill(this.#store, top, workspaces);
    const all = { store: this.#store, top, allocator, tables, links, locks, fill, release };
    this.#writes = new Writes(all);
    this.#zeroes = new Zeroes(all, this.#writes, top);
    this.#resizes = new Resizes({ ...all, context, zeroes: this.#zeroes, top });
  }

  arrived(io: Io): void {
    this.#releases.arrived(io);
  }

  done(io: Io): void {
    this.#releases.done(io);
  }

  write(io: Io): Coroutine {
    return this.#change(io, this.#writes.write(io, io.offset, 0, io.length));
  }

  discard(io: Io): Coroutine {
    return this.#change(io, this.#zeroes.run(io, DISCARD));
  }

  writeZeroes(io: Io): Coroutine {
    return this.#change(io, this.#zeroes.run(io, io.flags & FLAG_NOUNMAP ? KEEP : UNMAP));
  }

  resize(io: Io, size: number): Coroutine {
    return this.#change(io, this.#resizes.run(io, size));
  }

  *flush(io: Io): Coroutine {
    if (this.#store.fenced) return -EIO;
    const failure = yield* this.#store.barrier(io);
    if (failure < 0) return failure;
    this.#store.cache.onPages?.();
    yield* this.#releases.reclaim(io, this.#allocator);
    return 0;
  }

  *#change(io: Io, work: Coroutine): Coroutine {
    if (this.#store.fenced) return -EIO;
    const begun = this.#begin();
    if (begun < 0) return begun;
    const failure = yield* work;
    if (failure < 0) return failure;
    const crowded = this.#releases.count > RELEASED_MAX;
    if ((io.flags & FLAG_FUA) !== 0 || crowded) {
      const durable = yield* this.#store.barrier(io);
      if (durable < 0) return durable;
    }
    if (crowded) yield* this.#releases.reclaim(io, this.#allocator);
    return 0;
  }

  #begin(): number {
    if (this.#begun) return 0;
    if (this.#danger !== undefined) return this.#store.fence(this.#danger);
    try {
      beginWriting(this.#store.image, this.#store.header);
    } catch (error) {
      const why = error instanceof SysError ? error.message : String(error);
      return this.#store.fence(`cannot be made ready for writing: ${why}`);
    }
    this.#begun = true;
    this.#fast.writes = true;
    return 0;
  }

  close(): void {
    this.#releases.close(this.#allocator.takeBack());
    if (this.#recovering && !this.#store.fenced) this.#giveBackLeaks();
  }

  /** The image is sound with them, so a failure is only told. */
  #giveBackLeaks(): void {
    try {
      giveBackLeaks(this.#store.image);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#log?.(`clusters of a server that was killed stay leaked: ${error.message}`);
    }
  }
}
