// hot
/** Requests that need nothing but what is in memory: mapped clusters, and zeros. */

import {
  FLAG_FUA,
  type Io,
  OP_READ,
  OP_WRITE,
  PIECES_MAX,
  QUEUED,
  SLOW,
} from "../../src/target/target.ts";
import { DATA, type Mapping, UNALLOCATED, ZERO } from "./mapping.ts";
import { DIRTY, type TableCache, WRITING } from "./table_cache.ts";

export class FastPath {
  /** In place only: the image has been made ready for writing, and nothing has failed. */
  writes = false;
  readonly #ciphered: boolean;
  readonly #mapping: Mapping;
  readonly #cache: TableCache;
  readonly #ends: Float64Array;
  readonly #hasBacking: boolean;
  readonly #kinds = new Uint8Array(PIECES_MAX);
  readonly #hosts = new Float64Array(PIECES_MAX);
  readonly #lengths = new Int32Array(PIECES_MAX);
  readonly #files = new Int32Array(PIECES_MAX);

  /** `ciphered`: data goes through our hands, and nothing is fast. */
  constructor(
    ciphered: boolean,
    mapping: Mapping,
    cache: TableCache,
    ends: Float64Array,
    hasBacking: boolean,
  ) {
    this.#ciphered = ciphered;
    this.#mapping = mapping;
    this.#cache = cache;
    this.#ends = ends;
    this.#hasBacking = hasBacking;
  }

  queueIo(io: Io): number {
    if (this.#ciphered) return SLOW;
    if (io.op === OP_READ) return this.#read(io);
    if (io.op === OP_WRITE && this.writes && (io.flags & FLAG_FUA) === 0) return this.#write(io);
    return SLOW;
  }

  #read(io: Io): number {
    const count = this.#gather(io, false);
    if (count === 0) return SLOW;
    let at = 0;
    for (let piece = 0; piece < count; piece++) {
      const length = this.#lengths[piece]!;
      const host = this.#hosts[piece]!;
      if (this.#kinds[piece] !== DATA) io.zeroBytes(at, length);
      else io.readFile(this.#files[piece]!, host, at, length);
      at += length;
    }
    return QUEUED;
  }

  #write(io: Io): number {
    const count = this.#gather(io, true);
    if (count === 0) return SLOW;
    let at = 0;
    for (let piece = 0; piece < count; piece++) {
      const length = this.#lengths[piece]!;
      const host = this.#hosts[piece]!;
      io.writeFile(this.#files[piece]!, host, at, length, false);
      at += length;
    }
    return QUEUED;
  }

  /** How many pieces the request falls into; 0 when there are too many, or one is not simple. */
  #gather(io: Io, write: boolean): number {
    const mapping = this.#mapping;
    let at = 0;
    let count = 0;
    while (at < io.length) {
      if (count === PIECES_MAX) return 0;
      const kind = mapping.mapCached(io.offset + at, io.length - at);
      if (write ? !this.#inPlace(kind) : !this.#readable(kind)) return 0;
      this.#kinds[count] = kind;
      this.#hosts[count] = mapping.host;
      this.#lengths[count] = mapping.length;
      this.#files[count] = mapping.fileFor(mapping.hostLow, at, mapping.length);
      at += mapping.length;
      count++;
    }
    return count;
  }

  #readable(kind: number): boolean {
    if (kind === DATA) return this.#insideFile();
    return kind === ZERO || (kind === UNALLOCATED && !this.#hasBacking);
  }

  /**
   * An entry that its file does not have yet could be lost after the WRITE was acknowledged. And
   * whoever writes behind the end of the file has to say so, or it would go on reading zeros.
   */
  #inPlace(kind: number): boolean {
    if (kind !== DATA || !this.#mapping.owned || !this.#insideFile()) return false;
    return (this.#cache.state[this.#mapping.slot]! & (DIRTY | WRITING)) === 0;
  }

  /** What is mapped and not in the file yet reads zeros, which takes the long way. */
  #insideFile(): boolean {
    const mapping = this.#mapping;
    return mapping.host + mapping.length <= this.#ends[mapping.dataFile]!;
  }
}
