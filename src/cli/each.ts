/** What -a means: one device that fails does not keep the others waiting. */

import { deviceIds } from "../control/device.ts";
import { isGone } from "../control/remove.ts";
import { EXIT_FAILED, reportOf } from "../control/report.ts";
import { note } from "./print.ts";

/**
 * Does it to each device, and tells of those that fail as of one alone; the exit status is 1 then.
 * A device that has gone since it was listed is none of them.
 */
export async function each(
  verb: string,
  ids: readonly number[],
  json: boolean,
  action: (id: number) => Promise<void>,
): Promise<void> {
  for (const id of ids) await oneOf(verb, id, json, action);
}

/** The same for one of them; throws nothing. */
export async function oneOf(
  verb: string,
  id: number,
  json: boolean,
  action: (id: number) => Promise<void>,
): Promise<void> {
  try {
    await action(id);
  } catch (error) {
    if (isGone(error) && !deviceIds().includes(id)) return;
    note(reportOf(error, `ublk ${verb}`, json).text);
    process.exitCode = EXIT_FAILED;
  }
}
