/** `ublk resize`: a live device becomes larger or, when that is said, smaller. */

import { defineCommand } from "citty";
import { withChannel } from "../control/command.ts";
import { resizeDevice, type WantedSize } from "../control/resize.ts";
import { viewDevice } from "../control/view.ts";
import { parseSize, UsageError } from "../target/parse.ts";
import {
  cittyArgs,
  ID_OPTION,
  JSON_OPTION,
  neededId,
  type OptionTable,
  parseOptions,
} from "./options.ts";
import { print } from "./print.ts";

const OPTIONS: OptionTable = {
  number: ID_OPTION,
  size: {
    type: "string",
    valueHint: "SIZE",
    description: "the new size, or +SIZE for so much more; what the backing has by default",
  },
  shrink: { type: "boolean", description: "also to a smaller size; what is behind it is lost" },
  json: JSON_OPTION,
};

export const resizeCommand = defineCommand({
  meta: { name: "resize", description: "give a device another size while it is in use" },
  args: cittyArgs(OPTIONS),
  async run({ rawArgs }) {
    const values = parseOptions(rawArgs, OPTIONS);
    const { size, shrink, json } = values;
    const id = neededId(values);
    const wanted = parseWanted(size as string | undefined);
    await withChannel(async (channel) => {
      const { from, to } = await resizeDevice(channel, id, wanted, shrink === true);
      if (json === true) print(`${JSON.stringify(await viewDevice(channel, id))}\n`);
      else if (from === to) print(`device ${id} has ${to} bytes\n`);
      else print(`device ${id} has ${to} bytes now, ${from} before\n`);
    });
  },
});

/** "1G" is a size, "+1G" so much more. */
function parseWanted(text: string | undefined): WantedSize {
  if (text === undefined) return undefined;
  const more = text.startsWith("+");
  const bytes = parseSize("--size", more ? text.slice(1) : text);
  if (bytes === 0) throw new UsageError(`--size '${text}': give a size such as 4096, 64K or 1G`);
  return { bytes, more };
}
