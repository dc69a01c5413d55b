/** Numbers by cluster, few or many, in memory that grows with the parts of the file in use. */

const CHUNK = 1 << 14;
/** This and more is kept elsewhere: nearly every number is 0 or 1, and there are millions. */
const LARGE = 0xffff;

export class Counts {
  readonly #chunks = new Map<number, Uint16Array>();
  readonly #large = new Map<number, number>();

  get(cluster: number): number {
    const count = this.#chunks.get(Math.floor(cluster / CHUNK))?.[cluster % CHUNK] ?? 0;
    return count === LARGE ? this.#large.get(cluster)! : count;
  }

  add(cluster: number, count: number): void {
    const index = Math.floor(cluster / CHUNK);
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = new Uint16Array(CHUNK);
      this.#chunks.set(index, chunk);
    }
    const sum = this.get(cluster) + count;
    if (sum >= LARGE) this.#large.set(cluster, sum);
    chunk[cluster % CHUNK] = Math.min(sum, LARGE);
  }

  /** Those that are not 0. */
  *entries(): Generator<[cluster: number, count: number]> {
    for (const index of [...this.#chunks.keys()].toSorted((one, other) => one - other)) {
      const chunk = this.#chunks.get(index)!;
      for (let within = 0; within < CHUNK; within++) {
        const cluster = index * CHUNK + within;
        if (chunk[within] !== 0) yield [cluster, this.get(cluster)];
      }
    }
  }
}
