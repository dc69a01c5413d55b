/** Devices that stand on devices: whoever ends several begins at the top. */

import { readState } from "./state.ts";

/** The ublk device, or a partition of it, that this one is kept in; links to it are not seen. */
export function standsOn(id: number): number | undefined {
  const below = /^\/dev\/ublkb(\d+)(?:p\d+)?$/.exec(String(readState(id)?.report["backing_file"]));
  return below === null ? undefined : Number(below[1]);
}

/**
 * Ends all at once, but each only after those that stand on it: they write to it until they have
 * ended. One that somebody has open keeps nobody waiting but what it stands on. `end` throws
 * nothing.
 */
export async function endFromTop(
  ids: readonly number[],
  end: (id: number) => Promise<void>,
  below = standsOn,
): Promise<void> {
  const parents = new Map(ids.map((id) => [id, below(id)]));
  const ended = new Map<number, Promise<void>>();
  const level = (id: number): number => levelOf(id, parents);
  for (const id of ids.toSorted((one, other) => level(other) - level(one))) {
    // They come before, but in a circle, which only files that are wrong can tell of.
    const above = ids.filter((one) => parents.get(one) === id);
    const turn = Promise.all(above.map((one) => ended.get(one)));
    ended.set(
      id,
      turn.then(() => end(id)),
    );
  }
  await Promise.all(ended.values());
}

/** How many devices are below. */
function levelOf(id: number, parents: ReadonlyMap<number, number | undefined>): number {
  const passed = new Set([id]);
  for (let at = parents.get(id); at !== undefined && !passed.has(at); at = parents.get(at)) {
    passed.add(at);
  }
  return passed.size - 1;
}
