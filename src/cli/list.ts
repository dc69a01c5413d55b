/** `ublk list`: the devices that exist, whoever serves them. */

import { defineCommand } from "citty";
import { withChannel } from "../control/command.ts";
import { deviceIds } from "../control/device.ts";
import { isDenied, isGone } from "../control/remove.ts";
import { type DeviceView, viewDevice } from "../control/view.ts";
import { listTable } from "./list_table.ts";
import {
  cittyArgs,
  ID_OPTION,
  JSON_OPTION,
  type OptionTable,
  parseId,
  parseOptions,
} from "./options.ts";
import { deviceBlock, note, print } from "./print.ts";

const OPTIONS: OptionTable = {
  number: ID_OPTION,
  verbose: {
    type: "boolean",
    alias: "v",
    description: "a block of lines for each, as where no terminal looks",
  },
  json: JSON_OPTION,
};

export const listCommand = defineCommand({
  meta: { name: "list", description: "show the devices that exist" },
  args: cittyArgs(OPTIONS),
  async run({ rawArgs }) {
    const values = parseOptions(rawArgs, OPTIONS);
    const number = values["number"] as string | undefined;
    const views = await viewAll(number === undefined ? undefined : parseId(number));
    const isForPeople = process.stdout.isTTY && values["verbose"] !== true;
    if (values["json"] === true) print(`${JSON.stringify(views)}\n`);
    else if (isForPeople) print(listTable(views));
    else print(views.map(deviceBlock).join(""));
  },
});

const viewAll = (id: number | undefined): Promise<DeviceView[]> =>
  withChannel(async (channel) => {
    if (id !== undefined) return [await viewDevice(channel, id)];
    const views: DeviceView[] = [];
    let denied = 0;
    for (const existing of deviceIds()) {
      try {
        views.push(await viewDevice(channel, existing));
      } catch (error) {
        if (isDenied(error)) denied++;
        else if (!isGone(error)) throw error; // deleted while we looked
      }
    }
    if (denied > 0) note(`ublk list: note: ${denied} of other users not shown\n`);
    return views;
  });
