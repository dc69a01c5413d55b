/** The hidden verb: what `add` starts, or becomes with --foreground. */

import { type Host, serve, type ServePlan } from "../control/daemon.ts";
import { answerFailed, answerLive, nameProcess } from "../control/launch.ts";
import { announce } from "./add.ts";

/** `argv`: the plan as JSON, then the flags of `become`. */
export async function runDaemon(
  argv: readonly string[],
  hostFor: (plan: ServePlan) => Promise<Host>,
): Promise<void> {
  const plan = JSON.parse(argv[0] ?? "") as ServePlan;
  const host = await hostFor(plan);
  nameProcess();
  if (argv.includes("--foreground")) {
    await serve(plan, host, (id) => announce(id, plan, argv.includes("--json")));
    return;
  }
  let live = false;
  try {
    await serve(plan, host, async (id) => {
      live = true;
      answerLive(id);
    });
  } catch (error) {
    if (live) throw error;
    answerFailed(error);
    process.exitCode = 1;
  }
}
