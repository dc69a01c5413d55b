/** The server's memory as the simulated kernel sees it. */

import { readFileSync } from "node:fs";
import { type Pointer, toArrayBuffer } from "bun:ffi";

interface Region {
  name: string;
  address: number;
  length: number;
  /** Why the kernel must not write there now; undefined when it may. */
  guard: () => string | undefined;
}

/** Everything that the process has mapped may be touched, but for what a guard stands before. */
export class Memory {
  readonly #guarded: Region[] = [];
  #mapped: [from: number, to: number][] = [];

  guard(name: string, address: number, length: number, guard: Region["guard"]): void {
    this.#guarded.push({ name, address, length, guard });
  }

  /** Bytes that the kernel copies from. */
  source(address: number, length: number): Uint8Array {
    if (length === 0) return new Uint8Array(0);
    if (!this.#isMapped(address, length)) {
      this.#mapped = mappings();
      if (!this.#isMapped(address, length)) {
        throw new Error(`${length} bytes at 0x${address.toString(16)} are not the server's`);
      }
    }
    return new Uint8Array(toArrayBuffer(address as Pointer, 0, length));
  }

  /** Bytes that the kernel copies to. */
  destination(address: number, length: number): Uint8Array {
    for (const region of this.#guarded) {
      const apart = address >= region.address + region.length || address + length <= region.address;
      const objection = apart ? undefined : region.guard();
      if (objection !== undefined) throw new Error(`wrote to ${region.name}: ${objection}`);
    }
    return this.source(address, length);
  }

  #isMapped(address: number, length: number): boolean {
    return this.#mapped.some(([from, to]) => address >= from && address + length <= to);
  }
}

/** What this process can read and write, neighbours joined. */
function mappings(): [from: number, to: number][] {
  const found: [number, number][] = [];
  for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line);
    if (match === null) continue;
    const [from, to] = [Number.parseInt(match[1]!, 16), Number.parseInt(match[2]!, 16)];
    const last = found.at(-1);
    if (last !== undefined && last[1] === from) last[1] = to;
    else found.push([from, to]);
  }
  return found;
}
