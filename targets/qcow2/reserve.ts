/**
 * Clusters behind the end of the file, counted ahead of those who will ask for them.
 *
 * Their counts and the file's length are durable when they are given out, and they read zeros
 * until somebody writes to them, whatever a power cut does. So an entry may show one of them at
 * once where zeros are what stood there before: the WRITE needs no barrier.
 */

import type { Run } from "./allocate.ts";

/** A server that is killed leaks no more than the larger one; it is approached by doubling. */
const AHEAD_MIN = 1 << 20;
const AHEAD_MAX = 32 << 20;

export class Reserve {
  /** The first that is left, and where they end. */
  next = 0;
  end = 0;
  readonly #most: number;
  #ahead: number;

  constructor(clusterSize: number) {
    this.#most = Math.max(1, AHEAD_MAX / clusterSize);
    this.#ahead = Math.max(1, AHEAD_MIN / clusterSize);
  }

  get count(): number {
    return this.end - this.next;
  }

  /** How many clusters to count when `wanted` of them are needed now. */
  ahead(wanted: number): number {
    const count = Math.max(wanted, this.#ahead);
    this.#ahead = Math.min(this.#most, this.#ahead * 2);
    return count;
  }

  /** The file cannot be that long: from now on in small steps. */
  shrink(): void {
    this.#ahead = 1;
  }

  fill(first: number, end: number): void {
    this.next = first;
    this.end = end;
  }

  take(wanted: number, run: Run): void {
    run.cluster = this.next;
    run.count = Math.min(wanted, this.count);
    run.slot = -1;
    run.fresh = true;
    this.next += run.count;
  }
}
