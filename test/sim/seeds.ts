/** Tells a story under many seeds; a failure says how to see it again. */

import { test } from "bun:test";
import { relative } from "node:path";

const SMOKE = 6;
const MS_PER_SEED = 1000;

/** Which seeds are told: UBLK_SEED alone, or 1 to UBLK_SEEDS; `smoke` of them by default. */
export function seedsToTell(smoke: number): number[] {
  const one = process.env["UBLK_SEED"];
  if (one !== undefined) return [Number(one)];
  const count = Number(process.env["UBLK_SEEDS"] ?? smoke);
  return Array.from({ length: count }, (_, index) => index + 1);
}

/** `path` is the test file's own: import.meta.path. */
export function story(
  name: string,
  path: string,
  tell: (seed: number) => void,
  smoke = SMOKE,
): void {
  const all = seedsToTell(smoke);
  test(
    name,
    () => {
      for (const seed of all) retelling(seed, path, tell);
    },
    Math.max(20_000, all.length * MS_PER_SEED),
  );
}

export function retelling(seed: number, path: string, tell: (seed: number) => void): void {
  try {
    tell(seed);
  } catch (error) {
    const again = `UBLK_SEED=${seed} bun test ${relative(process.cwd(), path)}`;
    if (error instanceof Error) error.message += `\n\n${again}\n`;
    throw error;
  }
}
