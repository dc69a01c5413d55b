/** PROCESS entry: argv → verb; the only place that prints an error and exits. */

import { type CommandDef, defineCommand, renderUsage, runCommand } from "citty";
import { liburingVersion } from "../ffi/liburing.ts";
import { version } from "../package.json" with { type: "json" };
import { targets } from "../targets/index.ts";
import { DAEMON_VERB, END_VERB } from "./control/launch.ts";
import type { DaemonPlan } from "./control/daemon.ts";
import { print } from "./cli/print.ts";
import type { Log } from "./control/log.ts";
import type { Host } from "./control/server.ts";
import { startThread } from "./control/threads.ts";
import { tellSize } from "./queue/message.ts";
import { reportOf } from "./control/report.ts";
import { UsageError } from "./target/parse.ts";

/** Only a module beside the Worker's entry can name it, and only like this in an executable. */
const WORKER = Bun.isStandaloneExecutable
  ? "/$bunfs/root/worker.js"
  : new URL("./worker.ts", import.meta.url).href;

const verbs: Record<string, (argv: string[]) => Promise<CommandDef>> = {
  add: async (argv) => (await import("./cli/add.ts")).addCommand(targets, argv),
  del: async () => (await import("./cli/del.ts")).delCommand,
  stop: async () => (await import("./cli/stop.ts")).stopCommand,
  recover: async () => (await import("./cli/recover.ts")).recoverCommand(targets),
  upgrade: async () => (await import("./cli/recover.ts")).upgradeCommand(targets),
  list: async () => (await import("./cli/list.ts")).listCommand,
  resize: async () => (await import("./cli/resize.ts")).resizeCommand,
  set_affinity: async () => (await import("./cli/set_affinity.ts")).setAffinityCommand,
  check: async () => (await import("./cli/check.ts")).checkCommand(targets),
  info: async () => (await import("./cli/info.ts")).infoCommand(targets),
  "udev-rules": async () => (await import("./cli/udev_rules.ts")).udevRulesCommand,
  "chown-device": async () => (await import("./cli/chown_device.ts")).chownDeviceCommand,
  features: async () => (await import("./cli/features.ts")).featuresCommand,
};

function rootCommand(argv: string[]): CommandDef {
  const loaders = Object.entries(verbs).map(([verb, load]) => [verb, () => load(argv)]);
  return defineCommand({
    meta: {
      name: "ublk",
      version,
      description: "userspace block devices: an image becomes a disk",
    },
    subCommands: Object.fromEntries(loaders) as Record<string, () => Promise<CommandDef>>,
  });
}

async function main(argv: string[]): Promise<void> {
  const [verb = "", ...rest] = argv;
  if (verb === DAEMON_VERB) return runDaemonVerb(rest);
  if (verb === END_VERB) return (await import("./cli/end.ts")).runEnd(rest);
  if (verb === "--version" || verb === "-V") return show(versionLine());
  if (verb === "help" || verb === "--help" || verb === "-h") return help(rest);
  const load = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined;
  if (load === undefined) {
    const verbNames = `${Object.keys(verbs).join(", ")}, help`;
    throw new UsageError(
      `${verb === "" ? "no verb" : `no verb '${verb}'`}: there are ${verbNames}`,
    );
  }
  if (rest.includes("--help") || rest.includes("-h")) return help(argv);
  await runCommand(rootCommand(rest), { rawArgs: argv });
}

async function help(argv: string[]): Promise<void> {
  const [verb, ...rest] = argv;
  const root = rootCommand(rest);
  if (verb === undefined) return show(await renderUsage(root));
  const load = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined;
  if (load === undefined) throw new UsageError(`no verb '${verb}' to help with`);
  show(await renderUsage(await load(rest), root));
}

function show(text: string): void {
  print(`${process.stdout.isTTY ? text : Bun.stripANSI(text)}\n`);
}

function versionLine(): string {
  return `ublk ${version} (Bun ${Bun.version}, liburing ${liburingVersion()})`;
}

async function runDaemonVerb(argv: string[]): Promise<void> {
  const hostFor = async (plan: DaemonPlan, log: Log): Promise<Host> => ({
    target: await targets[plan.target]!(),
    log,
    startThread: (thread) =>
      startThread(
        WORKER,
        thread,
        (level, line) => (level === "warn" ? log.once(level, line) : log.say(level, line)),
        tellSize,
      ),
  });
  const { runDaemon } = await import("./cli/daemon.ts");
  await runDaemon(argv, hostFor);
  process.exit(process.exitCode ?? 0);
}

const argv = process.argv.slice(2);
try {
  await main(argv);
} catch (error) {
  const verb = argv[0] ?? "";
  const command = Object.hasOwn(verbs, verb) ? `ublk ${verb}` : "ublk";
  const { text, status } = reportOf(error, command, argv.includes("--json"));
  process.stderr.write(text);
  process.exit(status);
}
