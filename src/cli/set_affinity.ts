/** `ublk set_affinity`: other CPUs for the thread of a queue. */

import { defineCommand } from "citty";
import { setQueueAffinity } from "../control/affinity.ts";
import { withChannel } from "../control/command.ts";
import { parseCpuSet, UsageError } from "../target/parse.ts";
import { cittyArgs, ID_OPTION, type OptionTable, parseId, parseOptions } from "./options.ts";

const OPTIONS: OptionTable = {
  number: ID_OPTION,
  queue: { type: "string", alias: "q", valueHint: "QID", description: "the queue, from 0" },
  cpuset: { type: "string", valueHint: "SET", description: "CPUs, such as 0-3,8" },
};

export const setAffinityCommand = defineCommand({
  meta: { name: "set_affinity", description: "bind the thread of a queue to other CPUs" },
  args: cittyArgs(OPTIONS),
  async run({ rawArgs }) {
    const { number, queue, cpuset } = parseOptions(rawArgs, OPTIONS);
    if (number === undefined || queue === undefined || cpuset === undefined) {
      throw new UsageError(
        "say which device, which queue and which CPUs: -n ID -q QID --cpuset SET",
      );
    }
    if (!/^\d+$/.test(String(queue))) throw new UsageError(`-q '${queue}': give a queue such as 0`);
    const cpus = parseCpuSet("--cpuset", String(cpuset));
    const id = parseId(String(number));
    await withChannel((channel) => setQueueAffinity(channel, id, Number(queue), cpus));
  },
});
