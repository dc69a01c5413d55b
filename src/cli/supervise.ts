/** The hidden verb behind `add --supervise`: starts a server, and others after it. */

import { withChannel } from "../control/command.ts";
import { planOf } from "../control/hidden_verbs.ts";
import { answerFailed, answerLive, answerWaiting, launch, nameProcess } from "../control/launch.ts";
import { openLog } from "../control/log.ts";
import { planRecovery } from "../control/recover.ts";
import { removeDevice } from "../control/remove.ts";
import type { ServePlan } from "../control/start.ts";
import { supervise } from "../control/supervise.ts";
import type { TargetRegistry } from "../target/target.ts";

/** `argv`: the plan as JSON. */
export async function runSupervise(argv: readonly string[], targets: TargetRegistry) {
  const plan = planOf<ServePlan>(argv[0] ?? "");
  nameProcess("ublk-watch");
  const log = openLog(plan.logLevel, false);
  let id: number;
  try {
    id = await launch(plan, { again: true, waiting: answerWaiting });
  } catch (error) {
    answerFailed(error);
    process.exitCode = 1;
    return;
  }
  log.name = `ublk${id}`;
  try {
    if (!answerLive(id)) {
      log.say("warn", "whoever added it has gone: deleting it");
      return await remove(id);
    }
    await supervise(id, (program) => recover(id, program, targets), log);
  } catch (error) {
    log.say(
      "error",
      `is watched no more: ${error instanceof Error ? error.message : String(error)}`,
    );
    process.exitCode = 1;
  }
}

async function remove(id: number): Promise<void> {
  await withChannel((channel) => removeDevice(channel, id));
}

async function recover(id: number, program: number, targets: TargetRegistry): Promise<void> {
  await withChannel(async (channel) => {
    const plan = await planRecovery(channel, id, "recover", targets);
    await launch(plan, { again: true, program });
  });
}
