/** `ublk man`: the manual page ublk(1), made from the tables that help is made from. */

import { type CommandDef, defineCommand } from "citty";
import type { TargetRegistry } from "../target/target.ts";
import { cittyArgs, type OptionTable, parseOptions } from "./options.ts";
import { print } from "./print.ts";
import { type Verb, type VerbTable, verbTable } from "./verbs.ts";

export function manCommand(targets: TargetRegistry, version: string): CommandDef {
  return defineCommand({
    meta: { name: "man", description: "print the manual page: ublk man | man -l -" },
    args: cittyArgs({}),
    async run({ rawArgs }) {
      parseOptions(rawArgs, {});
      print(await manual(verbTable(targets, version), targets, version));
    },
  });
}

export async function manual(
  verbs: VerbTable,
  targets: TargetRegistry,
  version: string,
): Promise<string> {
  const parts = [
    `.TH UBLK 1 "" "ublk ${roff(version)}" "User Commands"`,
    `.SH NAME\nublk \\- turn an image into a disk`,
    `.SH SYNOPSIS\n.B ublk\n.I VERB\n[\\fIOPTIONS\\fR] [\\fIWORDS\\fR]`,
    `.SH DESCRIPTION\n${roff(DESCRIPTION)}`,
    ".SH VERBS",
  ];
  for (const [name, verb] of Object.entries(verbs)) parts.push(await ofVerb(name, verb));
  parts.push(".SH TARGETS");
  for (const [name, load] of Object.entries(targets)) {
    const { summary, options } = await load();
    parts.push(`.SS "\\-t ${roff(name)}"\n${roff(sentence(summary))}`, ...optionList(options));
  }
  parts.push(`.SH EXIT STATUS`, ...EXIT_STATUS.map(([code, what]) => item(`.B ${code}`, what)));
  parts.push(`.SH FILES`, ...FILES.map(([path, what]) => item(`.I ${roff(path)}`, what)));
  parts.push(".SH SEE ALSO\n.BR losetup (8),\n.BR qemu\\-nbd (8),\n.BR mount (8)");
  return `${parts.join("\n")}\n`;
}

const DESCRIPTION =
  "A block device whose requests are answered by a process of yours instead of a driver in the " +
  "kernel. It needs Linux 6.5 or newer with ublk_drv, and root or the rules of ublk udev-rules. Underscores are accepted for " +
  "hyphens in long options. Sizes are bytes, or K, M, G, T, P (powers of 1024).";

const EXIT_STATUS = [
  ["0", "Done."],
  ["1", "It failed: a line says what, on what and why, and mostly a second one what to do."],
  ["2", "The words made no sense; nothing was done."],
  ["other", "As qemu-img check (ublk check), or as the command (ublk run)."],
] as const;

const FILES = [
  ["/run/ublk/ID.json", "What a device was made of."],
  ["/run/ublk/ID.stat", "What its threads count."],
  ["/run/ublk/ID.sock", "Where its server hears of resize."],
  ["$XDG_RUNTIME_DIR/ublk", "The same for the devices of an ordinary user."],
] as const;

async function ofVerb(name: string, verb: Verb): Promise<string> {
  const command = await verb.load([]);
  const { description = "" } = command.meta as { description?: string };
  const words = verb.words === undefined ? "" : ` ${verb.words}`;
  const examples = verb.examples.map(([line, what]) => item(`.B ${roff(line)}`, sentence(what)));
  return [
    `.SS "ublk ${roff(name)}${roff(words)}"`,
    roff(sentence(description)),
    ...optionList((command.args ?? {}) as OptionTable),
    ".PP",
    examples.length > 1 ? "Examples:" : "Example:",
    ...examples,
  ].join("\n");
}

function optionList(options: OptionTable): string[] {
  return Object.entries(options).map(([name, { alias, valueHint, description }]) => {
    const long = `\\fB\\-\\-${roff(name)}\\fR`;
    const both = alias === undefined ? long : `\\fB\\-${roff(alias)}\\fR, ${long}`;
    const value = valueHint === undefined ? "" : ` \\fI${roff(valueHint)}\\fR`;
    return item(both + value, sentence(description));
  });
}

const item = (head: string, text: string): string => `.TP\n${head}\n${roff(text)}`;

const sentence = (text: string): string =>
  `${text[0]!.toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;

/** Text as roff has it: no line begins with a request, hyphens are those that one types. */
function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("…", "...")
    .replaceAll(/^(?=[.'])/gm, "\\&");
}
