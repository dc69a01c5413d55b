/** `ublk features`: what this kernel's driver offers. */

import { defineCommand } from "citty";
import { withChannel } from "../control/command.ts";
import { getFeatures } from "../control/device.ts";
import { flagNames } from "../control/features.ts";
import { parseOptions } from "./options.ts";
import { featureList, print } from "./print.ts";

export const featuresCommand = defineCommand({
  meta: { name: "features", description: "show what this kernel's ublk driver offers" },
  async run({ rawArgs }) {
    parseOptions(rawArgs, {});
    const features = await withChannel(getFeatures);
    print(featureList(features, flagNames(features)));
  },
});
