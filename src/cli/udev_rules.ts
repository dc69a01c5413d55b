/** `ublk udev-rules`: what lets ordinary users add devices of their own. */

import { defineCommand } from "citty";
import { trustedProgram } from "../control/caller.ts";
import { UsageError } from "../target/parse.ts";
import { cittyArgs, type OptionTable, parseOptions } from "./options.ts";
import { print } from "./print.ts";

const OPTIONS: OptionTable = {
  group: {
    type: "string",
    valueHint: "GROUP",
    description: "let only members of this group add devices (default: everybody)",
  },
};

export const udevRulesCommand = defineCommand({
  meta: { name: "udev-rules", description: "print udev rules for devices of ordinary users" },
  args: cittyArgs(OPTIONS),
  run({ rawArgs }) {
    const group = parseOptions(rawArgs, OPTIONS)["group"] as string | undefined;
    if (group !== undefined && !/^[a-z_][a-z0-9_-]*$/.test(group)) {
      throw new UsageError(`--group '${group}': give the name of a group`);
    }
    print(rules(trustedProgram(), group));
  },
});

/** `program` has no character that udev would take for anything else. */
export function rules(program: string, group?: string): string {
  const access = group === undefined ? 'MODE="0666"' : `GROUP="${group}", MODE="0660"`;
  return `# Devices of ordinary users: ublk add --unprivileged.
# ublk udev-rules > /etc/udev/rules.d/60-ublk.rules
# udevadm control --reload && udevadm trigger --action=add /dev/ublk-control

KERNEL=="ublk-control", SUBSYSTEM=="misc", ${access}

ACTION!="add", GOTO="ublk_end"
SUBSYSTEM=="ublk-char", KERNEL=="ublkc[0-9]*", GOTO="ublk_hand_over"
SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", KERNEL=="ublkb[0-9]*", GOTO="ublk_hand_over"
GOTO="ublk_end"

# systemd forbids the children of its udevd to make code at run time, as our runtime does.
LABEL="ublk_hand_over"
TEST=="/run/systemd/system", RUN+="/usr/bin/systemd-run --quiet --collect --no-block ${program} chown-device $devnode"
TEST!="/run/systemd/system", RUN+="${program} chown-device $devnode"

LABEL="ublk_end"
`;
}
