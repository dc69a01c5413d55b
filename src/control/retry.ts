/** Tries again until something works, with a bound, and says what it waits for. */

import { ETIMEDOUT, SysError } from "../../ffi/errno.ts";

/** What takes longer than this is told. */
const PATIENCE_MS = 1000;

/** Hears of what takes long. */
export type Say = (line: string) => void;

/** Tries until it works; `attempt` answers undefined for "not yet". */
export async function retry<T>(
  attempt: () => Promise<T | undefined>,
  bound: { ms: number; pause: number; what: string; hint: string },
  say: Say,
): Promise<T> {
  const begun = performance.now();
  let told = false;
  for (;;) {
    const answer = await attempt();
    if (answer !== undefined) return answer;
    const passed = performance.now() - begun;
    if (!told && passed > PATIENCE_MS) {
      told = true;
      say(`waiting ${bound.what}`);
    }
    if (passed > bound.ms) {
      const reason = `not after ${bound.ms / 1000} s`;
      throw new SysError({
        op: "wait",
        errno: ETIMEDOUT,
        subject: bound.what,
        reason,
        hint: bound.hint,
      });
    }
    await Bun.sleep(bound.pause);
  }
}
