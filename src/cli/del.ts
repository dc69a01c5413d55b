/** `ublk del`: the device ends, and its server with it. */

import { defineCommand } from "citty";
import { withChannel } from "../control/command.ts";
import { blockDevice, deviceIds } from "../control/device.ts";
import { type HowToEnd, isDenied, removeDevice } from "../control/remove.ts";
import { endFromTop } from "../control/stacked.ts";
import type { OptionDef } from "../target/target.ts";
import { oneOf } from "./each.ts";
import { cittyArgs, ID_OPTION, idOrAll, type OptionTable, parseOptions } from "./options.ts";
import { note } from "./print.ts";

export const SAFE_OPTION: OptionDef = {
  type: "boolean",
  description: "refuse while somebody has the block device open",
};

const OPTIONS: OptionTable = {
  number: ID_OPTION,
  all: {
    type: "boolean",
    alias: "a",
    description: "every ublk device that you may delete, whoever serves it",
  },
  safe: SAFE_OPTION,
  async: { type: "boolean", description: "wait neither for who has it open nor for its daemon" },
};

const PATIENCE_MS = 5000;

export const delCommand = defineCommand({
  meta: { name: "del", description: "delete a device; its daemon has ended when this returns" },
  args: cittyArgs(OPTIONS),
  async run({ rawArgs }) {
    const values = parseOptions(rawArgs, OPTIONS);
    const only = idOrAll(values);
    const how = { safe: values["safe"] === true, async: values["async"] === true };
    if (only !== undefined) return removeTelling("del", only, how);
    await removeAll(how);
  },
});

/** At once, so that one which somebody has open keeps none of the others waiting. */
async function removeAll(how: HowToEnd): Promise<void> {
  let denied = 0;
  const remove = (id: number): Promise<void> =>
    removeTelling("del", id, how).catch((error: unknown) => {
      if (!isDenied(error)) throw error;
      denied++;
    });
  await endFromTop(deviceIds(), (id) => oneOf("del", id, false, remove));
  if (denied > 0) note(`ublk del: note: ${denied} of other users left alone\n`);
}

/** The driver waits for those who have the device open; after a while the user is told so. */
export async function removeTelling(verb: string, id: number, how: HowToEnd = {}): Promise<void> {
  const timer = setTimeout(() => {
    const who = `${blockDevice(id)} is still open somewhere (a mounted file system?)`;
    note(`ublk ${verb}: waiting: ${who}\n`);
  }, PATIENCE_MS);
  try {
    await withChannel((channel) => removeDevice(channel, id, how));
  } finally {
    clearTimeout(timer);
  }
}
