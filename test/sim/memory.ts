/** The server's memory as the simulated kernel sees it: only what was registered may be touched. */

import { Arena } from "../../ffi/arena.ts";
import { type Pointer, toArrayBuffer } from "bun:ffi";

interface Region {
  name: string;
  address: number;
  bytes: Uint8Array;
  /** Why the kernel must not write there now; undefined when it may. */
  guard: () => string | undefined;
}

export class Memory {
  readonly #regions: Region[] = [];
  readonly #arenas: Arena[] = [];

  /** Mapped memory for the server, its bytes seen by the kernel. */
  map(length: number): Arena {
    const arena = new Arena(length);
    this.#arenas.push(arena);
    return arena;
  }

  allow(name: string, address: number, length: number, guard: Region["guard"]): void {
    const bytes = new Uint8Array(toArrayBuffer(address as Pointer, 0, length));
    this.#regions.push({ name, address, bytes, guard });
  }

  /** Bytes that the kernel copies from. */
  source(address: number, length: number): Uint8Array {
    return this.#find(address, length).bytes;
  }

  /** Bytes that the kernel copies to. */
  destination(address: number, length: number): Uint8Array {
    const { region, bytes } = this.#find(address, length);
    const objection = region.guard();
    if (objection !== undefined) throw new Error(`wrote to ${region.name}: ${objection}`);
    return bytes;
  }

  #find(address: number, length: number): { region: Region; bytes: Uint8Array } {
    for (const region of this.#regions) {
      const at = address - region.address;
      if (at < 0 || at + length > region.bytes.length) continue;
      return { region, bytes: region.bytes.subarray(at, at + length) };
    }
    throw new Error(`${length} bytes at 0x${address.toString(16)} are not the server's`);
  }

  free(): void {
    this.#regions.length = 0;
    for (const arena of this.#arenas) arena.free();
    this.#arenas.length = 0;
  }
}
