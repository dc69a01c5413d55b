/** The buffers that a simulated ring knows: registered pages, and buffers given for multishots. */

import type { Memory } from "./memory.ts";

/** Pages of a request, as IORING_OP_READ_FIXED and WRITE_FIXED find them. */
export interface Pages {
  bytes: Uint8Array;
  /** A READ's pages are filled, a WRITE's are read. */
  filled: boolean;
  /** Why they may not be touched any more; undefined while they may. */
  objection(): string | undefined;
  /** The last registration is gone. */
  release(): void;
}

export class BufferTable {
  size = 0;
  readonly #entries = new Map<number, Pages>();

  get(index: number): Pages | undefined {
    return this.#entries.get(index);
  }

  put(index: number, pages: Pages): void {
    if (index >= this.size) throw new Error(`buffer ${index} is not in a table of ${this.size}`);
    if (this.#entries.has(index)) throw new Error(`buffer ${index} is registered already`);
    this.#entries.set(index, pages);
  }

  /** False when there was none. */
  remove(index: number): boolean {
    const pages = this.#entries.get(index);
    this.#entries.delete(index);
    pages?.release();
    return pages !== undefined;
  }

  clear(): void {
    for (const index of this.#entries.keys()) this.remove(index);
  }
}

const BUF_SIZE = 16;
const TAIL_AT = 14;
const F_BUFFER = 1 << 0;
const F_BUF_MORE = 1 << 4;
const BUFFER_SHIFT = 16;

/** Room in the first buffer of a group. */
export interface Room {
  bytes: Uint8Array;
  /**
   * Takes `length` of it, as with IOU_PBUF_RING_INC; answers the flags of its completion. `whole`:
   * the buffer is used up whatever is left, as older kernels have it when `length` is 0.
   */
  take(length: number, whole?: boolean): number;
}

/** struct io_uring_buf_ring of each group, in the server's memory. */
export class ProvidedBuffers {
  readonly #memory: Memory;
  readonly #groups = new Map<number, { address: number; entries: number; head: number }>();

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  register(address: number, entries: number, group: number): void {
    this.#groups.set(group, { address, entries, head: 0 });
  }

  /** Undefined when the group has no buffer left. */
  room(group: number): Room | undefined {
    const ring = this.#groups.get(group);
    if (ring === undefined) throw new Error(`there is no buffer group ${group}`);
    const bytes = this.#memory.source(ring.address, ring.entries * BUF_SIZE);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if ((ring.head & 0xffff) === view.getUint16(TAIL_AT, true)) return undefined;
    const at = (ring.head % ring.entries) * BUF_SIZE;
    const address = Number(view.getBigUint64(at, true));
    const length = view.getUint32(at + 8, true);
    const id = view.getUint16(at + 12, true);
    const take = (used: number, whole = false): number => {
      const rest = whole ? 0 : length - used;
      view.setUint32(at + 8, rest, true);
      if (rest > 0) view.setBigUint64(at, BigInt(address + used), true);
      else ring.head++;
      return F_BUFFER | (id << BUFFER_SHIFT) | (rest > 0 ? F_BUF_MORE : 0);
    };
    return { bytes: this.#memory.destination(address, length), take };
  }
}
