/** What a check of an image finds. */

import { Counts } from "./counts.ts";

export interface Findings {
  corruptions: number;
  leaks: number;
  /** What is wrong, one line each, `MESSAGES_MAX` at the most. */
  messages: string[];
  /** Of the active table: clusters in use, and how many of them are compressed. */
  allocated: number;
  compressed: number;
  total: number;
  /** Where the last cluster ends that is in use, or counted. */
  endOffset: number;
  /** How many entries of the active tables have a wrong bit 63: there may be millions. */
  wrongFlags: number;
  /** Uses of each cluster, as counted. */
  counts: Counts;
  /** A table could not be followed: what it shows is in use, and not counted. */
  incomplete: boolean;
}

export const MESSAGES_MAX = 100;

/** `total`: clusters of the disk. */
export function nothingFound(total: number): Findings {
  return {
    corruptions: 0,
    leaks: 0,
    messages: [],
    allocated: 0,
    compressed: 0,
    total,
    endOffset: 0,
    wrongFlags: 0,
    counts: new Counts(),
    incomplete: false,
  };
}

export function corrupt(found: Findings, message: string): void {
  found.corruptions++;
  say(found, `ERROR ${message}`);
}

export function say(found: Findings, message: string): void {
  if (found.messages.length < MESSAGES_MAX) found.messages.push(message);
}
