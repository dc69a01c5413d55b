/** `ublk unit`: the unit templates by which systemd keeps devices. */

import { defineCommand } from "citty";
import { installUnits, unitFiles } from "../control/unit.ts";
import { cittyArgs, type OptionTable, parseOptions } from "./options.ts";
import { print } from "./print.ts";

const OPTIONS: OptionTable = {
  dir: {
    type: "string",
    valueHint: "DIR",
    description: "write ublk@.service and ublk-stop@.service there, such as /etc/systemd/system",
  },
};

export const unitCommand = defineCommand({
  meta: { name: "unit", description: "print or install the unit templates for systemd" },
  args: cittyArgs(OPTIONS),
  run({ rawArgs }) {
    const dir = parseOptions(rawArgs, OPTIONS)["dir"] as string | undefined;
    const files = unitFiles(process.execPath);
    if (dir === undefined) print(files["ublk@.service"]);
    else print(`${installUnits(files, dir).join("\n")}\n`);
  },
});
