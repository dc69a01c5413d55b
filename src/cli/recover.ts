/** `ublk recover` and `ublk upgrade`: another server for a device that lives on. */

import { type CommandDef, defineCommand } from "citty";
import { type Believed, refuseMistaken } from "../control/believed.ts";
import { type Channel, withChannel } from "../control/command.ts";
import { deviceIds, getDevInfo, stateName } from "../control/device.ts";
import { recoveryOf } from "../control/features.ts";
import { voice } from "../control/hidden_verbs.ts";
import { become, launch } from "../control/launch.ts";
import { planRecovery, type RecoverPlan } from "../control/recover.ts";
import { isDenied, isGone } from "../control/remove.ts";
import { isServed } from "../control/served.ts";
import { absolutePath, UsageError } from "../target/parse.ts";
import type { OptionValues, TargetRegistry } from "../target/target.ts";
import { announce } from "./add.ts";
import { askSecret } from "./ask_secret.ts";
import { each } from "./each.ts";
import {
  cittyArgs,
  ID_OPTION,
  idOrAll,
  JSON_OPTION,
  type OptionTable,
  parseOptions,
} from "./options.ts";
import { note } from "./print.ts";

type How = RecoverPlan["how"];

const RECOVER_OPTIONS: OptionTable = {
  number: ID_OPTION,
  all: { type: "boolean", alias: "a", description: "every device that has lost its server" },
  type: {
    type: "string",
    alias: "t",
    valueHint: "TYPE",
    description: "refuse a device of another type; it need not be said",
  },
  file: {
    type: "string",
    alias: "f",
    valueHint: "FILE",
    description: "refuse a device kept elsewhere; take FILE although it was replaced",
  },
  verbose: { type: "boolean", alias: "v", description: "no effect: for scripts that have it" },
  foreground: { type: "boolean", description: "serve in this process until SIGTERM or SIGINT" },
  json: JSON_OPTION,
};

const UPGRADE_OPTIONS: OptionTable = {
  number: ID_OPTION,
  all: { type: "boolean", alias: "a", description: "every device that can be upgraded" },
  json: JSON_OPTION,
};

export function recoverCommand(targets: TargetRegistry): CommandDef {
  return defineCommand({
    meta: { name: "recover", description: "serve a device that has lost its server" },
    args: cittyArgs(RECOVER_OPTIONS),
    run: ({ rawArgs }) => takeOver("recover", parseOptions(rawArgs, RECOVER_OPTIONS), targets),
  });
}

export function upgradeCommand(targets: TargetRegistry): CommandDef {
  return defineCommand({
    meta: { name: "upgrade", description: "replace the server of a live device by this program" },
    args: cittyArgs(UPGRADE_OPTIONS),
    run: ({ rawArgs }) => takeOver("upgrade", parseOptions(rawArgs, UPGRADE_OPTIONS), targets),
  });
}

/** What can be true of one device only. */
const OF_ONE = ["foreground", "type", "file"];

async function takeOver(how: How, values: OptionValues, targets: TargetRegistry): Promise<void> {
  const only = idOrAll(values);
  const json = values["json"] === true;
  if (only !== undefined) {
    const { plan, secret } = await checkedPlan(only, how, targets, believed(values));
    if (values["foreground"] === true) become(plan, voice(how, json), secret);
    return launchTelling({ plan, secret }, json);
  }
  const ofOne = OF_ONE.find((name) => values[name] !== undefined);
  if (ofOne !== undefined) throw new UsageError(`--${ofOne} is about one device: -n ID`);
  await each(how, await candidates(how), json, async (id) => {
    await launchTelling(await checkedPlan(id, how, targets), json);
  });
}

function believed({ type, file }: OptionValues): Believed {
  return {
    type: type as string | undefined,
    file: file === undefined ? undefined : absolutePath("-f", String(file)),
  };
}

interface Checked {
  plan: RecoverPlan;
  secret: string | undefined;
}

async function checkedPlan(
  id: number,
  how: How,
  targets: TargetRegistry,
  said?: Believed,
): Promise<Checked> {
  return withChannel(async (channel) => {
    const plan = await planRecovery(channel, id, how, targets);
    const target = await targets[plan.target]!();
    if (said !== undefined) refuseMistaken(plan, target, said);
    const question = target.question?.(plan.config);
    const secret = question === undefined ? undefined : askSecret(question);
    const anyFile = said?.file !== undefined;
    return { plan: { ...plan, secret: secret !== undefined, anyFile }, secret };
  });
}

async function launchTelling({ plan, secret }: Checked, json: boolean): Promise<void> {
  const waiting = (line: string): void => note(`ublk ${plan.how}: ${line}\n`);
  await announce(await launch(plan, { secret, waiting }), plan, voice(plan.how, json));
}

/** Those that it is about; for the others there is nothing to do. */
const candidates = (how: How): Promise<number[]> =>
  withChannel(async (channel) => {
    const found: number[] = [];
    for (const id of deviceIds()) if (await isCandidate(channel, id, how)) found.push(id);
    return found;
  });

/** What cannot be looked at fails as one of many, unless it is deleted meanwhile or not ours. */
export async function isCandidate(channel: Channel, id: number, how: How): Promise<boolean> {
  try {
    const info = await getDevInfo(channel, id);
    if (recoveryOf(info.flags) === "none") return false;
    const live = isServed(info);
    return how === "recover" ? stateName(info) !== "DEAD" && !live : live;
  } catch (error) {
    return !isGone(error) && !isDenied(error);
  }
}
