/** `ublk unit`: the unit templates by which systemd keeps devices. */

import { defineCommand } from "citty";
import { changeable, INSTALL, isSystemRoot, plainProgram } from "../control/caller.ts";
import { installUnits, unitFiles } from "../control/unit.ts";
import { absolutePath } from "../target/parse.ts";
import { cittyArgs, type OptionTable, parseOptions } from "./options.ts";
import { note, print } from "./print.ts";

const OPTIONS: OptionTable = {
  dir: {
    type: "string",
    valueHint: "DIR",
    description: "write ublk@.service and ublk-stop@.service there, such as /etc/systemd/system",
  },
};

export const unitCommand = defineCommand({
  meta: {
    name: "unit",
    description: "print ublk@.service for systemd; --dir installs all it needs",
  },
  args: cittyArgs(OPTIONS),
  run({ rawArgs }) {
    const dir = parseOptions(rawArgs, OPTIONS)["dir"] as string | undefined;
    const folder = dir === undefined ? undefined : absolutePath("--dir", dir);
    const program = plainProgram();
    // Not refused: to a user's own systemd, his own program is as good.
    const part = isSystemRoot() ? changeable(program) : undefined;
    if (part !== undefined) {
      const why = `root's systemd would run it, and others than root can change ${part}`;
      note(`ublk unit: note: ${program}: ${why}\n       ${INSTALL}\n`);
    }
    const files = unitFiles(program);
    if (folder === undefined) print(files["ublk@.service"]);
    else print(`${installUnits(files, folder).join("\n")}\n`);
  },
});
