/** Verbs that ublk says to itself: what `launch.ts` starts begins with one of them. */

import { EINVAL, SysError } from "../../ffi/errno.ts";
import { cpuSetText, parseCpuSet } from "../target/parse.ts";
import type { DaemonPlan } from "./daemon.ts";

/** The hidden verb behind which the daemon lives. */
export const DAEMON_VERB = "daemon";
/** The hidden verb that starts a server, watches it, and starts the next one. */
export const SUPERVISE_VERB = "supervise";
/** The hidden verb that ends a device on behalf of its own daemon. */
export const END_VERB = "end";
/** The hidden verb of a foreground server that lives no longer than whoever started it. */
export const TIED_VERB = "tied";
/** Behind the plan of a daemon that stays where it was begun; its voice follows. */
export const FOREGROUND = "--foreground";

/** As whom a server in the foreground speaks: that of the verb which it was begun by. */
export interface Voice {
  verb: string;
  /** How it describes the device that is live, and how it says what went wrong before. */
  announce: Manner;
  errors: Manner;
}

type Manner = "text" | "json";

export function voice(verb: string, json: boolean): Voice {
  const manner = json ? "json" : "text";
  return { verb, announce: manner, errors: manner };
}

/** `ublk run` reads the announcement; people read the rest. */
export const VOICE_OF_RUN: Voice = { verb: "run", announce: "json", errors: "text" };

/** Whether a hidden verb was not typed by somebody: what follows it is what we put there. */
export function isStartedByUs([verb, first = ""]: readonly string[]): boolean {
  if (verb === DAEMON_VERB || verb === SUPERVISE_VERB) return isPlan(first);
  return (verb === END_VERB || verb === TIED_VERB) && /^\d{1,10}$/.test(first);
}

/** MAX_ARG_STRLEN of include/uapi/linux/binfmts.h, where a page has 4 KiB; with the final zero. */
const WORD_MAX = 32 * 4096;

/** A plan as one word behind its verb, in which CPU sets are short: there may be thousands. */
export function wordOf(plan: DaemonPlan): string {
  const affinity = plan.affinity.map((cpus) => (cpus?.length ? cpuSetText(cpus) : cpus));
  const word = JSON.stringify({ ...plan, affinity });
  if (Buffer.byteLength(word) < WORD_MAX) return word;
  throw new SysError({
    op: "--queue-affinity",
    errno: EINVAL,
    reason: "its sets do not fit into a command line",
    hint: "take ranges of CPUs, or name sets for fewer queues",
  });
}

/** The plan again. A supervisor of an earlier version writes its sets out. */
export function planOf<Plan extends DaemonPlan>(word: string): Plan {
  const plan = JSON.parse(word) as Omit<Plan, "affinity"> & {
    affinity: (string | number[] | null)[];
  };
  const affinity = plan.affinity.map((cpus) =>
    typeof cpus === "string" ? parseCpuSet("--queue-affinity", cpus) : cpus,
  );
  return { ...plan, affinity } as Plan;
}

function isPlan(text: string): boolean {
  try {
    return typeof (JSON.parse(text) as DaemonPlan | null)?.target === "string";
  } catch {
    return false;
  }
}

/** Of a process that we have started; undefined in the background, where nobody listens. */
export function voiceOf([verb, , flag, words = ""]: readonly string[]): Voice | undefined {
  if (verb === TIED_VERB) return VOICE_OF_RUN;
  return flag === FOREGROUND ? (JSON.parse(words) as Voice) : undefined;
}
