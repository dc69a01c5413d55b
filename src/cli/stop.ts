/** `ublk stop`: the block device and its server end; the device's number stays taken. */

import { defineCommand } from "citty";
import { withChannel } from "../control/command.ts";
import { stopForGood } from "../control/remove.ts";
import { cittyArgs, ID_OPTION, neededId, type OptionTable, parseOptions } from "./options.ts";
import { SAFE_OPTION } from "./del.ts";

const OPTIONS: OptionTable = {
  number: ID_OPTION,
  safe: SAFE_OPTION,
  unserved: { type: "boolean", description: "refuse while its server lives, whoever started that" },
};

export const stopCommand = defineCommand({
  meta: { name: "stop", description: "stop a device: it stays there, DEAD, until del" },
  args: cittyArgs(OPTIONS),
  async run({ rawArgs }) {
    const values = parseOptions(rawArgs, OPTIONS);
    const id = neededId(values);
    const how = { safe: values["safe"] === true, unserved: values["unserved"] === true };
    await withChannel((channel) => stopForGood(channel, id, how));
  },
});
