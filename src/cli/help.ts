/** What `ublk` says of itself: a few lines to begin with, all verbs, one verb. */

import { type CommandDef, defineCommand, renderUsage } from "citty";
import { UsageError } from "../target/parse.ts";
import { print } from "./print.ts";
import { didYouMean } from "./suggest.ts";
import type { Verb, VerbTable } from "./verbs.ts";

/** For somebody who typed `ublk` and nothing else. */
export const FIRST_STEPS = `ublk turns an image into a disk. What most people want:

  ublk add -t qcow2 -f vm.qcow2    vm.qcow2 becomes /dev/ublkb0 (-t loop for a plain file)
  ublk list                        which devices there are
  ublk del -n 0                    /dev/ublkb0 goes away

More: ublk help, ublk help VERB, ublk help -t TYPE`;

export function verbNamed(verbs: VerbTable, name: string): Verb {
  const verb = Object.hasOwn(verbs, name) ? verbs[name] : undefined;
  if (verb !== undefined) return verb;
  const names = [...Object.keys(verbs), "help"];
  const meant = didYouMean(name, names) || `: there are ${names.join(", ")}`;
  throw new UsageError(`no verb '${name}'${meant}`);
}

export function rootCommand(verbs: VerbTable, argv: readonly string[], version: string) {
  const loaders = Object.entries(verbs).map(([name, verb]) => [name, () => verb.load(argv)]);
  return defineCommand({
    meta: {
      name: "ublk",
      version,
      description: "userspace block devices: an image becomes a disk",
    },
    subCommands: Object.fromEntries(loaders) as Record<string, () => Promise<CommandDef>>,
  });
}

/** `ublk help [VERB] [-t TYPE]`; a type alone means `add`. */
export async function help(verbs: VerbTable, argv: readonly string[], version: string) {
  const [first, ...rest] = argv[0]?.startsWith("-") ? ["add", ...argv] : argv;
  const root = rootCommand(verbs, rest, version);
  if (first === undefined) return show(await renderUsage(root));
  const verb = verbNamed(verbs, first);
  const options = rest.filter((word) => word !== "--help" && word !== "-h");
  const usage = await renderUsage(await verb.load(options), root);
  const words = verb.words === undefined ? "" : ` ${verb.words}`;
  const whole = usage.replace(/(USAGE.*?)[ ]*$/m, (line) => line.replace(/ ?$/, words));
  show(`${whole.trimEnd()}\n\n${examplesOf(verb, options)}`);
}

/** Those of the type that was named, when there is one. */
function examplesOf(verb: Verb, options: readonly string[]): string {
  const type = options[options.findIndex((word) => word === "-t" || word === "--type") + 1];
  const fitting = verb.examples.filter(([line]) => line.includes(`-t ${type} `));
  const shown = fitting.length > 0 ? fitting : verb.examples;
  const lines = shown.map(([line, what]) => `  ${line}\n      ${what}`);
  return ["EXAMPLES", "", ...lines].join("\n");
}

/** Colours are for a terminal whose owner has not declined them. */
export function show(text: string): void {
  const plain = !process.stdout.isTTY || (process.env["NO_COLOR"] ?? "") !== "";
  print(`${plain ? Bun.stripANSI(text) : text}\n`);
}
