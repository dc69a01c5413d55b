/** Numbers by cluster, few or many, in memory that grows with the parts of the file in use. */

const CHUNK = 1 << 14;

export class Counts {
  readonly #chunks = new Map<number, Float64Array>();

  get(cluster: number): number {
    return this.#chunks.get(Math.floor(cluster / CHUNK))?.[cluster % CHUNK] ?? 0;
  }

  add(cluster: number, count: number): void {
    const index = Math.floor(cluster / CHUNK);
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = new Float64Array(CHUNK);
      this.#chunks.set(index, chunk);
    }
    chunk[cluster % CHUNK]! += count;
  }

  /** Those that are not 0. */
  *entries(): Generator<[cluster: number, count: number]> {
    for (const index of [...this.#chunks.keys()].toSorted((one, other) => one - other)) {
      const chunk = this.#chunks.get(index)!;
      for (let within = 0; within < CHUNK; within++) {
        if (chunk[within] !== 0) yield [index * CHUNK + within, chunk[within]!];
      }
    }
  }
}
