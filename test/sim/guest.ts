/** Whoever uses the device: random requests, and a model that judges what comes back. */

import { READ, WRITE } from "./tags.ts";
import { POISON, SECTOR, type Source, type World } from "./world.ts";

export const FLUSH = 2;
export const DISCARD = 3;
export const WRITE_ZEROES = 5;
export const FUA = 1 << 13;
/** UBLK_IO_F_SWAP */
export const SWAP = 1 << 16;
export const NOUNMAP = 1 << 15;

export interface GuestOptions {
  /** Bytes of the device. */
  size: number;
  /** How many requests in all, and how many at a time. */
  count: number;
  outstanding: number;
  maxSectors: number;
  /** Whether a request may fail. */
  mayFail: boolean;
}

interface Range {
  from: number;
  to: number;
  writes: boolean;
}

const MIX = [...[READ, READ, READ, WRITE, WRITE, WRITE], ...[FLUSH, DISCARD, WRITE_ZEROES]];

export class Guest implements Source {
  readonly #world: World;
  readonly #options: GuestOptions;
  readonly #model: Uint8Array;
  /** Sectors that a failed write has left in an unknown state. */
  readonly #unknown = new Set<number>();
  readonly #busy = new Set<Range>();
  #issued = 0;
  readonly count = { ended: 0, failed: 0 };

  constructor(world: World, options: GuestOptions) {
    this.#world = world;
    this.#options = options;
    this.#model = new Uint8Array(options.size);
    world.sources.push(this);
  }

  ready(): number {
    const more = this.#issued < this.#options.count;
    return more && this.#busy.size < this.#options.outstanding ? 1 : 0;
  }

  /** Requests that overlap may end in any order, so none does where one of the two writes. */
  fire(): void {
    const { random } = this.#world;
    const op = random.pick(MIX);
    const range = op === FLUSH ? { from: 0, to: 0, writes: false } : this.#range(op);
    for (const other of this.#busy) {
      const overlaps = range.from < other.to && other.from < range.to;
      if (overlaps && (range.writes || other.writes)) return;
    }
    this.#issue(op, range);
  }

  #range(op: number): Range {
    const { random } = this.#world;
    const all = this.#options.size / SECTOR;
    const wanted = 1 + random.int(Math.min(this.#options.maxSectors, all));
    const from = random.int(all - wanted + 1);
    return { from, to: from + wanted, writes: op !== READ };
  }

  #issue(op: number, range: Range): void {
    const number = ++this.#issued;
    const sectors = range.to - range.from;
    const bytes = new Uint8Array(op === READ || op === WRITE ? sectors * SECTOR : 0);
    if (op === WRITE)
      new Uint32Array(bytes.buffer).forEach((_, at, words) =>
        words.fill(mix(number, at), at, at + 1),
      );
    else bytes.fill(POISON);
    this.#busy.add(range);
    const ended = (result: number): void => {
      this.#busy.delete(range);
      this.count.ended++;
      this.#judge(op, range, bytes, result);
    };
    const flags = op === WRITE || op === WRITE_ZEROES ? this.#flags() : 0;
    this.#world.driver.queue({ op, flags, sector: range.from, sectors, bytes, ended });
  }

  #flags(): number {
    const { random } = this.#world;
    return (random.chance(0.2) ? FUA : 0) | (random.chance(0.3) ? NOUNMAP : 0);
  }

  #judge(op: number, range: Range, bytes: Uint8Array, result: number): void {
    if (result < 0) return this.#failed(op, range, result);
    const at = range.from * SECTOR;
    if (op === READ) return this.#compare(range, bytes);
    if (op === WRITE) this.#model.set(bytes, at);
    else this.#model.fill(0, at, range.to * SECTOR);
    for (let sector = range.from; sector < range.to; sector++) this.#unknown.delete(sector);
  }

  #failed(op: number, range: Range, result: number): void {
    this.count.failed++;
    if (!this.#options.mayFail) throw new Error(`operation ${op} failed with ${result}`);
    if (!range.writes) return;
    for (let sector = range.from; sector < range.to; sector++) this.#unknown.add(sector);
  }

  #compare(range: Range, bytes: Uint8Array): void {
    for (let sector = range.from; sector < range.to; sector++) {
      if (this.#unknown.has(sector)) continue;
      const found = bytes.subarray((sector - range.from) * SECTOR).subarray(0, SECTOR);
      const expected = this.#model.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      if (Buffer.compare(found, expected) === 0) continue;
      throw new Error(`sector ${sector} reads ${hex(found)}, not ${hex(expected)}`);
    }
  }

  /** Every request has ended, and each exactly once: the driver sees to the latter. */
  finished(): boolean {
    return this.count.ended === this.#options.count;
  }
}

/** A word that no other place and no other write has. */
function mix(number: number, at: number): number {
  return (number * 0x01000193) ^ (at * 0x9e3779b1);
}

function hex(bytes: Uint8Array): string {
  return `${Buffer.from(bytes.subarray(0, 8)).toString("hex")}…`;
}

/** QUIESCE_DEV once so many requests have ended; the answer tells whether it has been sent. */
export function quiesceAfter(world: World, guest: Guest, ended: number): () => boolean {
  let quiesced = false;
  world.sources.push({
    ready: () => (!quiesced && guest.count.ended >= ended && world.driver.canQuiesce() ? 1 : 0),
    fire: () => {
      quiesced = true;
      world.driver.quiesce();
    },
  });
  return () => quiesced;
}
