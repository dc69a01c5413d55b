// hot
/**
 * The clusters of an image that hold tables, so that nothing else is ever put there.
 *
 * A set of numbers in plain memory, 16 to 32 bytes for each table, since it is asked for each
 * entry of each slice that is loaded; and ranges of what never moves.
 */

const EMPTY = -1;
const SLOTS_MIN = 16;

export class KnownTables {
  count = 0;
  #slots = new Float64Array(SLOTS_MIN).fill(EMPTY);
  #mask = SLOTS_MIN - 1;
  readonly #ranges: Float64Array;

  /** `ranges`: of clusters, begin and end in turn; in order, and apart from each other. */
  constructor(ranges = new Float64Array()) {
    this.#ranges = ranges;
  }

  has(cluster: number): boolean {
    return this.#slots[this.#find(cluster)] === cluster || this.isFixed(cluster);
  }

  /** In one of the ranges. */
  isFixed(cluster: number): boolean {
    let low = 0;
    let high = this.#ranges.length;
    // How many begins and ends are not behind it: odd inside a range.
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle]! <= cluster) low = middle + 1;
      else high = middle;
    }
    return (low & 1) === 1;
  }

  add(cluster: number): void {
    const at = this.#find(cluster);
    if (this.#slots[at] === cluster) return;
    this.#slots[at] = cluster;
    this.count++;
    if (this.count * 2 > this.#slots.length) this.#grow();
  }

  delete(cluster: number): void {
    let hole = this.#find(cluster);
    if (this.#slots[hole] !== cluster) return;
    this.count--;
    // Those behind it move up, unless that would put them before where they are looked for.
    for (let at = (hole + 1) & this.#mask; ; at = (at + 1) & this.#mask) {
      const other = this.#slots[at]!;
      if (other === EMPTY) break;
      const distance = (at - this.#home(other)) & this.#mask;
      if (distance < ((at - hole) & this.#mask)) continue;
      this.#slots[hole] = other;
      hole = at;
    }
    this.#slots[hole] = EMPTY;
  }

  /** Where it is, or would be put. */
  #find(cluster: number): number {
    let at = this.#home(cluster);
    while (this.#slots[at] !== EMPTY && this.#slots[at] !== cluster) at = (at + 1) & this.#mask;
    return at;
  }

  /** MurmurHash3's last step: tables often stand at even distances, which simpler ones keep. */
  #home(cluster: number): number {
    const low = (cluster >>> 0) ^ (cluster / 2 ** 32);
    const mixed = Math.imul(low ^ (low >>> 16), 0x85ebca6b);
    const again = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return (again ^ (again >>> 16)) & this.#mask;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Float64Array(old.length * 2).fill(EMPTY); // once
    this.#mask = this.#slots.length - 1;
    for (let at = 0; at < old.length; at++) {
      if (old[at] !== EMPTY) this.#slots[this.#find(old[at]!)] = old[at]!;
    }
  }
}
