/**
 * PROCESS entry: argv → verb; the only place that prints an error and exits.
 *
 * Nothing that it imports here loads a library: where that fails, this has to be there to say so.
 */

import { runCommand } from "citty";
import { version } from "../package.json" with { type: "json" };
import { targets } from "../targets/index.ts";
import type { DaemonPlan } from "./control/daemon.ts";
import { print } from "./cli/print.ts";
import { verbTable } from "./cli/verbs.ts";
import {
  DAEMON_VERB,
  END_VERB,
  isStartedByUs,
  TIED_VERB,
  type Voice,
  voiceOf,
} from "./control/hidden_verbs.ts";
import type { Log } from "./control/log.ts";
import type { Host } from "./control/server.ts";
import { startThread } from "./control/threads.ts";
import { EXIT_USAGE, reportOf } from "./control/report.ts";

/** Only a module beside the Worker's entry can name it, and only like this in an executable. */
const WORKER = Bun.isStandaloneExecutable
  ? "/$bunfs/root/worker.js"
  : new URL("./worker.ts", import.meta.url).href;

const VERSION = new Set(["--version", "-V", "-v"]);

const verbs = verbTable(targets, version);

async function main(argv: string[]): Promise<void> {
  const [verb = "", ...rest] = argv;
  if (isStartedByUs(argv)) return runHidden(verb, rest);
  if (VERSION.has(verb)) return print(`${await versionLine()}\n`);
  const help = await import("./cli/help.ts");
  if (verb === "") {
    process.stderr.write(`${help.FIRST_STEPS}\n`);
    process.exit(EXIT_USAGE);
  }
  if (verb === "help" || verb === "--help" || verb === "-h") return help.help(verbs, rest, version);
  help.verbNamed(verbs, verb);
  const options = untilCommand(rest);
  if (options.includes("--help") || options.includes("-h")) return help.help(verbs, argv, version);
  await runCommand(help.rootCommand(verbs, rest, version), { rawArgs: argv });
}

/** Words behind "--" are another program's. */
function untilCommand(words: string[]): string[] {
  return words.includes("--") ? words.slice(0, words.indexOf("--")) : words;
}

async function runHidden(verb: string, rest: string[]): Promise<void> {
  if (verb === DAEMON_VERB) return runDaemonVerb([verb, ...rest]);
  if (verb === END_VERB) return (await import("./cli/end.ts")).runEnd(rest);
  if (verb === TIED_VERB) {
    const [parent, ...words] = rest;
    (await import("./control/launch.ts")).tie(Number(parent));
    return (await import("./cli/add.ts")).addTied(targets, words);
  }
  await (await import("./cli/supervise.ts")).runSupervise(rest, targets);
}

/** On whose behalf we speak: that of the verb which was typed. */
function ourVoice(argv: string[]): Partial<Voice> {
  if (isStartedByUs(argv)) return voiceOf(argv) ?? {};
  const [verb = ""] = argv;
  const errors = untilCommand(argv).includes("--json") ? "json" : "text";
  return Object.hasOwn(verbs, verb) ? { verb, errors } : { errors };
}

async function versionLine(): Promise<string> {
  const { liburingVersion } = await import("../ffi/liburing.ts");
  return `ublk ${version} (Bun ${Bun.version}, liburing ${liburingVersion()})`;
}

async function runDaemonVerb(argv: string[]): Promise<void> {
  const { tellSize } = await import("./queue/message.ts");
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
  const { verb, errors } = ourVoice(argv);
  const command = verb === undefined ? "ublk" : `ublk ${verb}`;
  const { text, status } = reportOf(error, command, errors === "json");
  process.stderr.write(text);
  process.exit(status);
}
