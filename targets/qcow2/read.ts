/** Reading through a chain of images: into a request, or into memory for who copies on write. */

import { EIO } from "../../src/target/file_io.ts";
import { copyMemory, zeroMemory } from "../../src/target/memory.ts";
import { type Coroutine, type Io, PIECES_MAX } from "../../src/target/target.ts";
import { type CompressedPlace, compressedPlace, decompress } from "./compressed.ts";
import { BAD, COMPRESSED, DATA, type Mapping, UNALLOCATED, ZERO } from "./mapping.ts";
import type { Gate } from "./locks.ts";
import { FILES_MAX, MISS, type TableCache } from "./table_cache.ts";
import { loadSlice } from "./table_io.ts";
import type { DiskCipher } from "./xts.ts";
import type { Workspace, Workspaces } from "./workspace.ts";

const KEY_OFFSET_MAX = 2 ** 46;

/** One image of a chain. */
export interface Layer {
  /** Bytes of its disk. */
  size: number;
  /** The registered file; of a raw image, the disk itself. */
  file: number;
  /** undefined: a raw image. */
  mapping: Mapping | undefined;
  compressionType: number;
  /** What its data clusters are encrypted with. */
  cipher: DiskCipher | undefined;
  backing: Layer | undefined;
}

export class Reader {
  readonly #cache: TableCache;
  readonly #workspaces: Workspaces;
  readonly #clusterSizeMax: number;
  /** Where each registered file ends; behind it there are zeros. */
  readonly #ends: Float64Array;
  readonly #loaders: Gate;
  /** Answers of `#resolve`. */
  #layer: Layer | undefined;
  #host = 0;
  #length = 0;

  /**
   * `workspaces`: of three clusters each. `loaders`: a request needs a slice of each image of the
   * chain at the same moment. Only as many load them as the cache has room for, or they would take
   * them away from each other for ever.
   */
  constructor(
    cache: TableCache,
    workspaces: Workspaces,
    clusterSizeMax: number,
    ends: Float64Array,
    loaders: Gate,
  ) {
    this.#loaders = loaders;
    this.#cache = cache;
    this.#workspaces = workspaces;
    this.#clusterSizeMax = clusterSizeMax;
    this.#ends = ends;
  }

  /**
   * Disk bytes of `layer` from `guest` on, into the request at `at`, or to `memory` + `at` when
   * that is not 0. 0 or -errno.
   */
  *read(
    io: Io,
    layer: Layer | undefined,
    guest: number,
    length: number,
    memory: number,
    at: number,
  ): Coroutine {
    let pieces = 0;
    for (let done = 0; done < length;) {
      const kind = this.#resolve(layer, guest + done, length - done);
      const there = { host: this.#host, length: this.#length, layer: this.#layer };
      const ciphered = kind === DATA && there.layer?.cipher !== undefined;
      const waits = kind === MISS || kind === COMPRESSED || kind === BAD || ciphered;
      if (pieces > 0 && (waits || pieces + 2 > PIECES_MAX)) {
        const failure = yield;
        if (failure < 0) return failure;
        pieces = 0;
        continue; // what was found may have changed
      }
      if (kind === BAD) return -EIO;
      if (kind === MISS) {
        const failure = yield* this.#loadTables(io, layer, guest + done, length - done);
        if (failure < 0) return failure;
        continue;
      }
      const to = at + done;
      const from = there.layer!;
      let slow: Coroutine | undefined;
      if (kind === COMPRESSED) {
        slow = this.#readCompressed(io, from, there.host, there.length, memory, to);
      } else if (ciphered) slow = this.#decrypted(io, there, memory, to);
      else if (kind === ZERO) pieces += this.#zero(io, memory, to, there.length);
      else pieces += this.#readHost(io, from, there.host, there.length, memory, to);
      const failure = slow === undefined ? 0 : yield* slow;
      if (failure < 0) return failure;
      done += there.length;
    }
    return pieces === 0 ? 0 : yield;
  }

  /** Returns when memory has what is at `guest`, in all images down to the one that has it. */
  *#loadTables(io: Io, layer: Layer | undefined, guest: number, length: number): Coroutine {
    yield* this.#loaders.enter();
    try {
      while (this.#resolve(layer, guest, length) === MISS) {
        const slot = yield* loadTable(this.#cache, io, this.#layer!.mapping!, this.#host);
        if (slot < 0) return slot;
      }
      return 0;
    } finally {
      this.#loaders.leave();
    }
  }

  /** Whether the range reads zeros, as far as memory knows. */
  isZero(layer: Layer | undefined, guest: number, length: number): boolean {
    for (let done = 0; done < length; done += this.#length) {
      if (this.#resolve(layer, guest + done, length - done) !== ZERO) return false;
    }
    return true;
  }

  /**
   * Down the chain to whoever has something at `guest`. `#host` is the host offset for DATA, the
   * guest offset for MISS and COMPRESSED.
   */
  #resolve(top: Layer | undefined, guest: number, length: number): number {
    let layer = top;
    this.#length = length;
    while (layer !== undefined && guest < layer.size) {
      this.#layer = layer;
      this.#host = guest;
      this.#length = Math.min(this.#length, layer.size - guest);
      const mapping = layer.mapping;
      if (mapping === undefined) return DATA;
      const kind = mapping.mapCached(guest, this.#length);
      if (kind === MISS) return MISS;
      this.#length = mapping.length;
      if (kind === DATA) this.#host = mapping.host;
      if (kind !== UNALLOCATED) return kind;
      layer = layer.backing;
    }
    this.#layer = undefined;
    return ZERO;
  }

  /** Answers how many pieces it queued: at most two. */
  #readHost(
    io: Io,
    { mapping, file: own }: Layer,
    host: number,
    length: number,
    memory: number,
    at: number,
  ): number {
    const file = mapping?.dataFile ?? own;
    const there = Math.max(0, Math.min(length, this.#ends[file]! - host));
    let pieces = 0;
    if (there > 0) {
      if (memory === 0) io.readFile(mapping?.fileFor(host, at, there) ?? file, host, at, there);
      else io.readMeta(file, host, memory + at, there);
      pieces++;
    }
    if (there < length) pieces += this.#zero(io, memory, at + there, length - there);
    return pieces;
  }

  #zero(io: Io, memory: number, at: number, length: number): number {
    if (memory === 0) io.zeroBytes(at, length);
    else zeroMemory(memory + at, length);
    return memory === 0 ? 1 : 0;
  }

  /** Sectors have to be decrypted on the way. */
  *#decrypted(
    io: Io,
    from: { host: number; length: number; layer: Layer | undefined },
    memory: number,
    at: number,
  ): Coroutine {
    const { layer, length } = from;
    const workspace = yield* this.#workspaces.acquire();
    workspace.key = -1;
    try {
      for (let done = 0; done < length; done += this.#clusterSizeMax) {
        const host = from.host + done;
        const count = Math.min(this.#clusterSizeMax, length - done);
        const there = Math.max(0, Math.min(count, this.#ends[layer!.file]! - host));
        if (there > 0) {
          io.readMeta(layer!.file, host, workspace.address, there);
          const failure = yield;
          if (failure < 0) return failure;
        }
        // Not written yet; qemu decrypts these zeros as well.
        workspace.bytes.fill(0, there, count);
        layer!.cipher!.decrypt(workspace.bytes.subarray(0, count), host);
        if (memory !== 0) copyMemory(memory + at + done, workspace.address, count);
        else io.putBytes(at + done, workspace.address, count);
        if (memory === 0) {
          const put = yield;
          if (put < 0) return put;
        }
      }
      return 0;
    } finally {
      this.#workspaces.release(workspace);
    }
  }

  *#readCompressed(
    io: Io,
    layer: Layer,
    guest: number,
    length: number,
    memory: number,
    at: number,
  ): Coroutine {
    const mapping = layer.mapping!;
    const { clusterSize, geometry } = mapping;
    const entry = mapping.entryAt(mapping.slot, Math.floor(guest / clusterSize));
    const view = this.#cache.view;
    const high = view.getUint32(entry);
    const low = view.getUint32(entry + 4);
    const place = compressedPlace(high, low, geometry.clusterBits);
    if (place.offset >= this.#ends[mapping.file]!) return -EIO;
    // Two clusters never begin at one byte, so the byte is the name of the contents.
    const named = place.offset < KEY_OFFSET_MAX;
    const key = named ? place.offset * FILES_MAX + mapping.file : -1;
    const workspace = yield* this.#workspaces.acquire(key);
    try {
      if (key < 0 || workspace.key !== key) {
        const failure = yield* this.#decompressInto(io, layer, place, workspace);
        if (failure < 0) return failure;
        workspace.key = key;
      }
      const from = workspace.address + 2 * this.#clusterSizeMax + (guest % clusterSize);
      if (memory !== 0) copyMemory(memory + at, from, length);
      else io.putBytes(at, from, length);
      return memory === 0 ? yield : 0;
    } finally {
      this.#workspaces.release(workspace);
    }
  }

  *#decompressInto(io: Io, layer: Layer, place: CompressedPlace, workspace: Workspace): Coroutine {
    workspace.key = -1;
    const mapping = layer.mapping!;
    // The last sector is counted whole, and the file may end inside it.
    const length = Math.min(place.length, this.#ends[mapping.file]! - place.offset);
    io.readMeta(mapping.file, place.offset, workspace.address, length);
    const failure = yield;
    if (failure < 0) return failure;
    const input = workspace.bytes.subarray(0, length);
    const contents = decompress(input, layer.compressionType, mapping.clusterSize);
    if (contents === undefined) return -EIO;
    workspace.bytes.set(contents, 2 * this.#clusterSizeMax);
    return 0;
  }
}

/** Loads the slice of the L2 table that is in charge of `guest`. The slot, or -errno. */
export function loadTable(cache: TableCache, io: Io, mapping: Mapping, guest: number): Coroutine {
  const cluster = Math.floor(guest / mapping.clusterSize);
  const table = mapping.l2TableOf(cluster);
  const offset = mapping.sliceOffset(table, cluster);
  const inspect = (slot: number): void => mapping.inspect(slot);
  return loadSlice(cache, io, mapping.file, offset, mapping.sliceSize, inspect);
}
