/** `ublk add`: an image becomes a disk. */

import { defineCommand } from "citty";
import { refuseOffline } from "../control/affinity.ts";
import { refuseUnlike } from "../control/believed.ts";
import { withChannel } from "../control/command.ts";
import type { DaemonPlan } from "../control/daemon.ts";
import { type Voice, voice, VOICE_OF_RUN } from "../control/hidden_verbs.ts";
import { become, launch } from "../control/launch.ts";
import { LOG_LEVELS, type LogLevel } from "../control/log.ts";
import { planWaiting } from "../control/recover.ts";
import type { ServePlan } from "../control/start.ts";
import { type DeviceView, viewDevice } from "../control/view.ts";
import { PAGE_SIZE } from "../target/memory.ts";
import { parseCount, parseSize, UsageError } from "../target/parse.ts";
import type { AnyTarget, OptionValues, TargetRegistry } from "../target/target.ts";
import {
  cittyArgs,
  everyOption,
  ID_OPTION,
  JSON_OPTION,
  type OptionTable,
  parseId,
  parseOptions,
  peekOption,
} from "./options.ts";
import { askSecret } from "./ask_secret.ts";
import { askedLimits, LIMIT_OPTIONS, parseAffinity } from "./limits.ts";
import type { AskedFeatures } from "../control/features.ts";
import { askedFeatures, MODE_OPTIONS, zeroCopyMin } from "./modes.ts";
import { deviceBlock, note, print } from "./print.ts";
import { didYouMean } from "./suggest.ts";
import { bytes } from "./table.ts";

/** The driver's limits: UBLK_MAX_NR_QUEUES, UBLK_MAX_QUEUE_DEPTH, and a request's 32 MiB. */
const QUEUES_MAX = 4096;
const DEPTH_MAX = 4096;
const IO_BYTES_MAX = 32 << 20;

/** As the driver has it, and ublksrv, kublk and rublk. */
const FIRST_FREE = "-1";

const THREADS_MAX = 4096;
const MICROSECONDS_MAX = 1_000_000;

const OPTIONS: OptionTable = {
  type: { type: "string", alias: "t", valueHint: "TYPE", description: "what kind of disk" },
  number: {
    ...ID_OPTION,
    description: "take this device number (default: the first free one, as with -1)",
  },
  queues: {
    type: "string",
    alias: "q",
    valueHint: "N",
    description: "hardware queues (default 1)",
  },
  depth: {
    type: "string",
    alias: "d",
    valueHint: "N",
    description: "requests a queue (default 128)",
  },
  threads: {
    type: "string",
    valueHint: "N",
    description: "serving threads (default: one a queue)",
  },
  "max-io-buf-bytes": {
    type: "string",
    valueHint: "SIZE",
    description: "largest request (default 512K)",
  },
  ...MODE_OPTIONS,
  ...LIMIT_OPTIONS,
  "log-level": {
    type: "string",
    valueHint: "LEVEL",
    description: "what the daemon logs: error, warn, info (default), debug",
  },
  supervise: {
    type: "boolean",
    description: "when the server dies another takes over; -r -i unless -r or -e is given",
  },
  "or-recover": {
    type: "boolean",
    description: "device ID may be there: without its server it is taken over, DEAD deleted first",
  },
  foreground: { type: "boolean", description: "serve in this process until SIGTERM or SIGINT" },
  json: JSON_OPTION,
};

/** The options that there are for the type that `argv` names. */
export async function addOptions(registry: TargetRegistry, argv: readonly string[]) {
  const target = await namedTarget(registry, argv);
  const table: OptionTable = { ...OPTIONS, ...target?.options };
  const choices = Object.keys(registry);
  const more = target === undefined ? "; the options of one: ublk help -t TYPE" : "";
  const description = `what kind of disk: ${choices.join(", ")}${more}`;
  table["type"] = { ...OPTIONS["type"]!, description, choices };
  return { table, target };
}

export async function addCommand(registry: TargetRegistry, argv: readonly string[]) {
  const offered = await addOptions(registry, argv);
  return defineCommand({
    meta: { name: "add", description: offered.target?.summary ?? "turn an image into a disk" },
    args: cittyArgs(offered.table),
    async run({ rawArgs }) {
      const { values, target } = await addValues(registry, rawArgs, offered);
      await add(values, target, registry, voice("add", values["json"] === true));
    },
  });
}

/** What `ublk run` starts: a server in the foreground, beside the command's own output. */
export async function addTied(registry: TargetRegistry, argv: readonly string[]): Promise<void> {
  const { values, target } = await addValues(registry, argv, await addOptions(registry, argv));
  const tied = { "log-level": "warn", ...values, foreground: true };
  await add(tied, target, registry, VOICE_OF_RUN);
}

/** `offered`: what `addOptions` answered. */
export async function addValues(
  registry: TargetRegistry,
  argv: readonly string[],
  { table, target }: Awaited<ReturnType<typeof addOptions>>,
): Promise<{ values: OptionValues; target: AnyTarget }> {
  if (target !== undefined) return { values: parseOptions(argv, table), target };
  // To -f FILE alone the answer is that the type is missing, not that there is no -f.
  parseOptions(argv, { ...(await everyOption(registry)), ...table });
  const types = Object.keys(registry).join(", ");
  throw new UsageError(`say what kind of disk: -t TYPE, one of ${types}`);
}

/** Which target's options apply; found before the rest can be parsed. */
async function namedTarget(
  registry: TargetRegistry,
  argv: readonly string[],
): Promise<AnyTarget | undefined> {
  const name = peekOption(argv, OPTIONS, "type");
  if (name === undefined || name === "") return undefined;
  const load = Object.hasOwn(registry, name) ? registry[name] : undefined;
  if (load !== undefined) return load();
  const types = Object.keys(registry);
  const meant = didYouMean(name, types) || `; there are ${types.join(", ")}`;
  throw new UsageError(`-t '${name}': there is no such type${meant}`);
}

async function add(
  values: OptionValues,
  target: AnyTarget,
  registry: TargetRegistry,
  speaking: Voice,
): Promise<void> {
  const plan = makePlan(values, target);
  refuseOffline(plan.affinity);
  const question = target.question?.(plan.config);
  const secret = question === undefined ? undefined : typedSecret(question, plan);
  plan.secret = secret !== undefined;
  const supervised = values["supervise"] === true;
  const foreground = values["foreground"] === true;
  if (supervised && foreground) {
    throw new UsageError(
      "--supervise and --foreground exclude each other: one is in the background",
    );
  }
  const device = values["or-recover"] === true ? await waitingDevice(plan, target, registry) : plan;
  if (foreground) become(device, speaking, secret);
  await announce(await launch(device, { secret, supervised }), device, speaking);
}

/** The plan, or, where the device waits for a server already, how to serve that. */
async function waitingDevice(
  plan: ServePlan,
  target: AnyTarget,
  registry: TargetRegistry,
): Promise<DaemonPlan> {
  if (plan.id < 0) throw new UsageError("--or-recover: say which device: -n ID");
  const say = (line: string): void => note(`ublk add: ${line}\n`);
  const waiting = await withChannel((channel) => planWaiting(channel, plan.id, registry, say));
  if (waiting === undefined) return plan;
  refuseUnlike(waiting, target, plan);
  return { ...waiting, secret: plan.secret };
}

/** It is kept nowhere, so whoever recovers the device would not have it. */
function typedSecret(question: string, plan: ServePlan): string | undefined {
  if (plan.features.recovery === "none") return askSecret(question);
  throw new UsageError(
    "recovery and a passphrase that is typed exclude each other: " +
      "it is kept nowhere; --key-file takes it from a file",
  );
}

export function makePlan(values: OptionValues, target: AnyTarget): ServePlan {
  const text = (name: string): string | undefined => values[name] as string | undefined;
  const maxIoBytes = parseSize("--max-io-buf-bytes", text("max-io-buf-bytes") ?? "512K");
  if (maxIoBytes < PAGE_SIZE || maxIoBytes > IO_BYTES_MAX || maxIoBytes % PAGE_SIZE !== 0) {
    const page = bytes(PAGE_SIZE);
    throw new UsageError(`--max-io-buf-bytes: give a multiple of ${page}, from ${page} to 32M`);
  }
  const queues = parseCount("--queues", text("queues") ?? "1", 1, QUEUES_MAX);
  const number = text("number") ?? FIRST_FREE;
  const asked = text("queue-affinity");
  const threads = parseCount("--threads", text("threads") ?? String(queues), 1, THREADS_MAX);
  return {
    target: target.name,
    config: target.configure(values),
    id: number === FIRST_FREE ? -1 : parseId(number),
    queues,
    depth: parseCount("--depth", text("depth") ?? "128", 1, DEPTH_MAX),
    maxIoBytes,
    features: withRecovery(askedFeatures(values, threads > queues), values),
    zeroCopyMin: zeroCopyMin(values),
    pollUs: parseCount("--poll-us", text("poll-us") ?? "0", 0, MICROSECONDS_MAX),
    limits: askedLimits(values),
    affinity: asked === undefined ? [] : parseAffinity(asked, queues),
    threads: text("threads") === undefined ? 0 : threads,
    logLevel: parseLevel(text("log-level") ?? "info"),
    secret: false,
  };
}

/** What is to be taken over by another server has to be of the kind that can. */
function withRecovery(features: AskedFeatures, values: OptionValues): AskedFeatures {
  const why = ["supervise", "or-recover"].find((name) => values[name] === true);
  if (why === undefined || features.recovery !== "none") return features;
  if (values["user-recovery"] !== false) return { ...features, recovery: "reissue" };
  throw new UsageError(`-r 0 and --${why} exclude each other: it needs recovery`);
}

function parseLevel(text: string): LogLevel {
  const level = LOG_LEVELS.find((one) => one === text);
  if (level !== undefined) return level;
  throw new UsageError(`--log-level '${text}': give one of ${LOG_LEVELS.join(", ")}`);
}

/** Prints the new device, and what came out otherwise than asked. */
export async function announce(id: number, plan: DaemonPlan, speaking: Voice): Promise<void> {
  const { notes, text } = await announcement(id, plan, speaking);
  if (notes !== "") note(notes);
  print(text, `the device is there all the same: ublk list -n ${id} shows it`);
}

/** `notes` are for standard error, lines or nothing. */
export async function announcement(
  id: number,
  plan: DaemonPlan,
  speaking: Voice,
): Promise<{ notes: string; text: string }> {
  const view = await withChannel((channel) => viewDevice(channel, id));
  const notes: string[] = [];
  if ("queues" in plan && view.nr_hw_queues < plan.queues) {
    const got = `the driver gave ${view.nr_hw_queues}, one for each CPU`;
    notes.push(`${plan.queues} queues were asked for, ${got}`);
  }
  if ("features" in plan && plan.features.unprivileged) notes.push(ordinaryNote(view));
  return {
    notes: notes.map((note) => `ublk ${speaking.verb}: note: ${note}\n`).join(""),
    text: speaking.announce === "json" ? `${JSON.stringify(view)}\n` : deviceBlock(view),
  };
}

/** What an ordinary user's server has to do without, or that it is not one. */
function ordinaryNote(view: DeviceView): string {
  return view.flag_names.includes("UNPRIVILEGED_DEV")
    ? "an ordinary user's server: it may be killed, or wait for itself, when memory is short"
    : "you are root: the driver ignores --unprivileged, and the device is root's";
}
