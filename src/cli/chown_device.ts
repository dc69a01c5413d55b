/** `ublk chown-device`: what udev runs as root for the nodes of ordinary users' devices. */

import { defineCommand } from "citty";
import { withChannel } from "../control/command.ts";
import { handOver } from "../control/hand_over.ts";
import { UsageError } from "../target/parse.ts";
import { parseOptions } from "./options.ts";

export const chownDeviceCommand = defineCommand({
  meta: {
    name: "chown-device",
    description: "for udev: give /dev/ublkcN or /dev/ublkbN to the user who added the device",
  },
  async run({ rawArgs }) {
    const at = rawArgs.findIndex((word) => !word.startsWith("-"));
    parseOptions(at < 0 ? rawArgs : rawArgs.toSpliced(at, 1), {});
    const path = rawArgs[at];
    if (path === undefined) throw new UsageError("which node? ublk chown-device /dev/ublkcN");
    await withChannel((channel) => handOver(channel, path));
  },
});
