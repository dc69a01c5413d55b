/** The hidden verb: what `add` and `recover` start, or become with --foreground. */

import { type DaemonPlan, serve } from "../control/daemon.ts";
import { answerFailed, answerLive, answerWaiting, nameProcess } from "../control/launch.ts";
import { type Log, openLog } from "../control/log.ts";
import { notifyReady } from "../control/notify.ts";
import { takeSecret } from "../control/secret.ts";
import type { Host } from "../control/server.ts";
import { announce } from "./add.ts";

/** `argv`: the plan as JSON, then the flags of `become`. */
export async function runDaemon(
  argv: readonly string[],
  hostFor: (plan: DaemonPlan, log: Log) => Promise<Host>,
): Promise<void> {
  const plan = JSON.parse(argv[0] ?? "") as DaemonPlan;
  const foreground = argv.includes("--foreground");
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
        if (foreground) await announce(id, plan, argv.includes("--json"));
        else answerLive(id);
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
