/** What this process has mapped, as the kernel tells it. */

import { readFileSync } from "node:fs";

/** Whether something is mapped at `address`, on its own or as part of a mapping with neighbours. */
export function isMapped(address: number): boolean {
  const ranges = readFileSync("/proc/self/maps", "utf8").matchAll(/^([0-9a-f]+)-([0-9a-f]+) /gm);
  return [...ranges].some(
    ([, from, to]) => Number.parseInt(from!, 16) <= address && address < Number.parseInt(to!, 16),
  );
}
