/**
 * The bytes of a simulated file: what a reader sees now, and what a power cut may leave.
 *
 * Each sector remembers what was written to it since it was last made durable. After a power cut
 * it holds the durable bytes or any one of the later versions, whatever its neighbours hold.
 */

import type { Random } from "./random.ts";

const SECTOR = 512;

interface Version {
  /** When it was written, on the platter's own clock. */
  time: number;
  bytes: Uint8Array;
}

export class Platter {
  #bytes: Uint8Array;
  #size: number;
  #clock = 0;
  readonly #durable: Uint8Array;
  readonly #volatile = new Map<number, Version[]>();
  /** Sizes that the file has had, the first of them durable. */
  #sizes: { time: number; size: number }[];

  /** Holds `size` bytes of zeros, and never more than `capacity`. */
  constructor(size: number, capacity = size) {
    this.#bytes = new Uint8Array(capacity);
    this.#durable = new Uint8Array(capacity);
    this.#size = size;
    this.#sizes = [{ time: 0, size }];
  }

  get size(): number {
    return this.#size;
  }

  get capacity(): number {
    return this.#bytes.length;
  }

  /** What a reader sees. */
  read(offset: number, length: number): Uint8Array {
    return this.#bytes.subarray(offset, Math.min(offset + length, this.#size));
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, offset);
    this.#remember(offset, bytes.length);
    if (offset + bytes.length > this.#size) this.#resize(offset + bytes.length);
  }

  zero(offset: number, length: number): void {
    const end = Math.min(offset + length, this.#size);
    if (end <= offset) return;
    this.#bytes.fill(0, offset, end);
    this.#remember(offset, end - offset);
  }

  truncate(size: number): void {
    if (size < this.#size) this.zero(size, this.#size - size);
    this.#resize(size);
  }

  #resize(size: number): void {
    this.#size = size;
    this.#sizes.push({ time: ++this.#clock, size });
  }

  #remember(offset: number, length: number): void {
    const time = ++this.#clock;
    for (const sector of sectorsOf(offset, length)) {
      const versions = this.#volatile.get(sector) ?? [];
      versions.push({ time, bytes: this.#bytes.slice(sector * SECTOR, (sector + 1) * SECTOR) });
      this.#volatile.set(sector, versions);
    }
  }

  /** Now, for `sync`. */
  get time(): number {
    return this.#clock;
  }

  /** What was written up to `time` survives from here on. */
  sync(time: number): void {
    for (const sector of this.#volatile.keys()) this.#syncSector(sector, time);
    const known = this.#sizes.findLastIndex((one) => one.time <= time);
    this.#sizes = this.#sizes.slice(known);
  }

  /** As `sync`, of a range: a durable write. */
  syncRange(offset: number, length: number): void {
    for (const sector of sectorsOf(offset, length)) this.#syncSector(sector, this.#clock);
    this.#sizes = this.#sizes.slice(-1);
  }

  #syncSector(sector: number, time: number): void {
    const versions = this.#volatile.get(sector) ?? [];
    const known = versions.findLastIndex((version) => version.time <= time);
    if (known < 0) return;
    this.#durable.set(versions[known]!.bytes, sector * SECTOR);
    const left = versions.slice(known + 1);
    if (left.length === 0) this.#volatile.delete(sector);
    else this.#volatile.set(sector, left);
  }

  /** What is there when the power comes back. */
  powerCut(random: Random): Platter {
    const { size } = random.pick(this.#sizes);
    const after = new Platter(size, this.capacity);
    after.#bytes.set(this.#durable);
    for (const [sector, versions] of this.#volatile) {
      const chosen = random.int(versions.length + 1);
      if (chosen > 0) after.#bytes.set(versions[chosen - 1]!.bytes, sector * SECTOR);
    }
    after.#bytes.fill(0, size);
    after.#durable.set(after.#bytes);
    return after;
  }
}

function* sectorsOf(offset: number, length: number): Generator<number> {
  const end = Math.ceil((offset + length) / SECTOR);
  for (let sector = Math.floor(offset / SECTOR); sector < end; sector++) yield sector;
}
