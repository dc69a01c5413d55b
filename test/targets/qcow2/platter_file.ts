/** A simulated disk as the file that the engine reads and writes at once, without the ring. */

import type { SyncFile } from "../../../src/target/file_io.ts";
import type { Platter } from "../../sim/platter.ts";

export class PlatterFile implements SyncFile {
  readonly path = "image";
  readonly limit = Number.POSITIVE_INFINITY;
  readonly #platter: Platter;

  constructor(platter: Platter) {
    this.#platter = platter;
  }
  size(): number {
    return this.#platter.size;
  }
  read(bytes: Uint8Array, offset: number): number {
    const found = this.#platter.read(offset, bytes.length);
    bytes.set(found);
    return found.length;
  }
  write(bytes: Uint8Array, offset: number): void {
    this.#platter.write(offset, bytes);
  }
  sync(): void {
    this.#platter.sync(this.#platter.time);
  }
  punch(offset: number, length: number): void {
    this.#platter.zero(offset, length);
  }
  truncate(length: number): void {
    this.#platter.truncate(length);
  }
  dropCached(): void {
    // there is no page cache
  }
}
