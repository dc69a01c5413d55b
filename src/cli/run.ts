/** `ublk run`: a device for as long as a command runs, and the command's own exit status. */

import { existsSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { type CommandDef, defineCommand } from "citty";
import { Identity } from "../control/nodes.ts";
import { startTied } from "../control/launch.ts";
import { isIgnored } from "../control/process.ts";
import { isGone } from "../control/remove.ts";
import { EXIT_FAILED, oneLine } from "../control/report.ts";
import { UsageError } from "../target/parse.ts";
import type { TargetRegistry } from "../target/target.ts";
import { addOptions, addValues, makePlan } from "./add.ts";
import { removeTelling } from "./del.ts";
import { cittyArgs } from "./options.ts";
import { note } from "./print.ts";

/** As shells have it. */
const EXIT_NOT_EXECUTABLE = 126;
const EXIT_NOT_FOUND = 127;
const EXIT_SIGNAL = 128;

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;
/** A terminal sends these to all of its foreground, the command included. */
const OF_TERMINALS = new Set<string>(["SIGINT", "SIGQUIT"]);

export async function runVerb(
  registry: TargetRegistry,
  argv: readonly string[],
): Promise<CommandDef> {
  const offered = await addOptions(registry, splitWords(argv).options);
  // Its server is in the foreground, where nobody supervises it.
  const { foreground: _, json: __, supervise: ___, ...options } = offered.table;
  const level = options["log-level"]!;
  options["log-level"] = {
    ...level,
    description: "what the server logs: warn, if nothing is said",
  };
  return defineCommand({
    meta: { name: "run", description: "add a device, run a command with it, delete the device" },
    args: cittyArgs(options),
    async run({ rawArgs }) {
      const words = splitWords(rawArgs);
      const { values, target } = await addValues(registry, words.options, {
        ...offered,
        table: options,
      });
      makePlan(values, target); // complains of what makes no sense
      const [program] = words.command;
      if (program === undefined) throw new UsageError("say what to run: -- COMMAND {} …");
      const path = Bun.which(program);
      if (path === null && isThere(program)) {
        return giveUp(EXIT_NOT_EXECUTABLE, `${program}: is there, but is no program`);
      }
      if (path === null) return giveUp(EXIT_NOT_FOUND, `${program}: command not found`);
      process.exitCode = await withDevice(words);
    },
  });
}

interface Words {
  options: string[];
  /** Behind the first "--". */
  command: string[];
}

export function splitWords(argv: readonly string[]): Words {
  const at = argv.indexOf("--");
  if (at < 0) return { options: [...argv], command: [] };
  return { options: argv.slice(0, at), command: argv.slice(at + 1) };
}

/** A file of that name, where a program would be looked for. */
function isThere(program: string): boolean {
  const folders = program.includes("/") ? [""] : (process.env["PATH"] ?? "").split(":");
  return folders.some((folder) => existsSync(folder === "" ? program : join(folder, program)));
}

function giveUp(status: number, why: string): void {
  note(`ublk run: ${oneLine(why)}\n`);
  process.exitCode = status;
}

/** Who hears of a signal changes as we go on; nobody dies of it before the device is gone. */
let onSignal: (signal: NodeJS.Signals) => void = () => {};

/** Answers the exit status. */
async function withDevice(words: Words): Promise<number> {
  let told: NodeJS.Signals | undefined;
  const ignored = SIGNALS.filter((signal) => signal !== "SIGTERM" && isIgnored(signal));
  for (const signal of SIGNALS) {
    if (!ignored.includes(signal)) process.on(signal, () => onSignal(signal));
  }
  const tied = startTied(words.options);
  onSignal = (signal) => {
    told = signal;
    tied.stop();
  };
  const id = await tied.live;
  if (id === undefined) {
    const signal = told ?? (await tied.ended); // ^C at a prompt is the server's
    return signal === null ? EXIT_FAILED : statusOf(signal);
  }
  const ours = new Identity(id);
  try {
    return told === undefined
      ? await runCommand(starting(words.command, ignored), id)
      : statusOf(told);
  } finally {
    onSignal = () => {};
    await removeOurs(ours);
    await tied.ended;
  }
}

/** Somebody may have deleted it meanwhile, and the number may be another device's by now. */
async function removeOurs(ours: Identity): Promise<void> {
  if (ours.isGone) return;
  await removeTelling("run", ours.id).catch((error: unknown) => {
    if (!isGone(error)) throw error;
  });
}

/** What starts a command that ignores these too: the runtime starts programs that ignore none. */
export function starting(command: string[], ignored: readonly NodeJS.Signals[]): string[] {
  if (ignored.length === 0) return command;
  const names = ignored.map((signal) => signal.replace("SIG", "")).join(" ");
  return ["/bin/sh", "-c", `trap "" ${names}; exec "$@"`, "sh", ...command];
}

async function runCommand(command: string[], id: number): Promise<number> {
  const device = `/dev/ublkb${id}`;
  const words = command.map((word) => word.replaceAll("{}", device));
  let child: Bun.Subprocess<"inherit", "inherit", "inherit">;
  try {
    child = Bun.spawn(words, {
      env: { ...process.env, UBLK_DEVICE: device },
      stdio: ["inherit", "inherit", "inherit"],
    });
  } catch (error) {
    giveUp(EXIT_NOT_EXECUTABLE, error instanceof Error ? error.message : String(error));
    return EXIT_NOT_EXECUTABLE;
  }
  const atTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  onSignal = (signal) => {
    if (!(atTerminal && OF_TERMINALS.has(signal))) child.kill(signal);
  };
  await child.exited;
  const { signalCode, exitCode } = child;
  return signalCode === null ? (exitCode ?? EXIT_FAILED) : statusOf(signalCode as NodeJS.Signals);
}

const statusOf = (signal: NodeJS.Signals): number => EXIT_SIGNAL + constants.signals[signal];
