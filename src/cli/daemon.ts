/** The hidden verb: what `add` and `recover` start, or become with --foreground. */

import { type DaemonPlan, serve } from "../control/daemon.ts";
import { planOf, type Voice, voiceOf } from "../control/hidden_verbs.ts";
import { answerFailed, answerLive, answerWaiting, nameProcess } from "../control/launch.ts";
import { type Log, openLog } from "../control/log.ts";
import { notifyReady } from "../control/notify.ts";
import { takeSecret } from "../control/secret.ts";
import type { Host } from "../control/server.ts";
import { announcement } from "./add.ts";
import { writeAll } from "../control/output.ts";

const STDOUT = 1;
const STDERR = 2;

/** What `add` prints. That nobody reads it is no reason to end, or to fail, for who serves. */
async function announceServed(id: number, plan: DaemonPlan, voice: Voice, log: Log) {
  const otherwise = "is live, but that cannot be printed";
  try {
    const { notes, text } = await announcement(id, plan, voice);
    log.bestEffort(otherwise, () => writeAll(STDERR, notes));
    log.bestEffort(otherwise, () => writeAll(STDOUT, text));
  } catch (error) {
    log.say("warn", `${otherwise}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** `argv`: the hidden verb, the plan as JSON, then the words of `become`. */
export async function runDaemon(
  argv: readonly string[],
  hostFor: (plan: DaemonPlan, log: Log) => Promise<Host>,
): Promise<void> {
  const plan = planOf<DaemonPlan>(argv[1]!);
  const voice = voiceOf(argv);
  const foreground = voice !== undefined;
  const log = openLog(plan.logLevel, foreground);
  const host = await hostFor(plan, log);
  if (plan.secret) host.secret = takeSecret();
  nameProcess();
  let live = false;
  try {
    await serve(plan, host, {
      waiting: (line) => {
        log.say("info", line);
        if (!foreground) answerWaiting(line);
      },
      live: async (id) => {
        live = true;
        notifyReady(`serves /dev/ublkb${id}`);
        if (voice === undefined) return answerLive(id);
        await announceServed(id, plan, voice, log);
        return true;
      },
    });
  } catch (error) {
    if (foreground && !live) throw error;
    process.exitCode = 1;
    if (!live) answerFailed(error);
    else
      log.say("error", `serves no more: ${error instanceof Error ? error.message : String(error)}`);
  }
}
