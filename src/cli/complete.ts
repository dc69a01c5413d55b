/**
 * `ublk complete`: what a shell may put next. `complete bash` prints the shell's part, which asks
 * `complete -- WORDS…`: the words of the line so far, the one being typed last.
 */

import { type CommandDef, defineCommand } from "citty";
import { deviceIds } from "../control/device.ts";
import { LOG_LEVELS } from "../control/log.ts";
import { UsageError } from "../target/parse.ts";
import type { OptionDef, TargetRegistry } from "../target/target.ts";
import { MODES } from "../target/thread_shape.ts";
import { cittyArgs, everyOption, type OptionTable } from "./options.ts";
import { print } from "./print.ts";
import { SHELLS } from "./shells.ts";
import { type VerbTable, verbTable } from "./verbs.ts";

/** Something to put there, with what it means; "<file>" asks for the shell's own files. */
export type Completion = [value: string, what: string];
export const FILES: Completion = ["<file>", ""];

export function completeCommand(targets: TargetRegistry, version: string): CommandDef {
  const names = Object.keys(SHELLS);
  return defineCommand({
    meta: { name: "complete", description: `print shell completion: ${names.join(", ")}` },
    args: cittyArgs({}),
    async run({ rawArgs }) {
      const [shell, ...words] = rawArgs;
      if (shell === "--") {
        const found = await complete(verbTable(targets, version), targets, words);
        return print(found.map(([value, what]) => `${value}\t${what}\n`).join(""));
      }
      const script = Object.hasOwn(SHELLS, shell ?? "") ? SHELLS[shell!] : undefined;
      if (script !== undefined && words.length === 0) return print(script);
      throw new UsageError(`for which shell? there are ${names.join(", ")}`);
    },
  });
}

/** `words`: those behind `ublk`, the last one as far as it is typed. */
export async function complete(
  verbs: VerbTable,
  targets: TargetRegistry,
  words: readonly string[],
): Promise<Completion[]> {
  const { before, typed, kept } = split(words);
  const found = await candidates(verbs, targets, before, typed);
  return found.flatMap(([value, what]): Completion[] => {
    if (value === FILES[0]) return [FILES];
    return value.startsWith(typed) ? [[kept + value, what]] : [];
  });
}

/** `--type=qc` is an option and the beginning of its value, which bash makes three words of. */
function split(words: readonly string[]): { before: string[]; typed: string; kept: string } {
  const before = words.slice(0, -1).filter((word) => word !== "=");
  const typed = words.at(-1) ?? "";
  const [, option, value] = /^(--[^=]+)=(.*)$/s.exec(typed) ?? [];
  if (option === undefined) return { before, typed: typed === "=" ? "" : typed, kept: "" };
  return { before: [...before, option], typed: value!, kept: `${option}=` };
}

async function candidates(
  verbs: VerbTable,
  targets: TargetRegistry,
  before: readonly string[],
  typed: string,
): Promise<Completion[]> {
  const [name, ...rest] = before;
  if (name === undefined || name === "help") return verbList(verbs);
  const verb = Object.hasOwn(verbs, name) ? verbs[name] : undefined;
  if (verb === undefined) return [];
  if (rest.includes("--")) return [FILES];
  const table = ((await loadable(verb, rest)).args ?? {}) as OptionTable;
  const known = "type" in table ? { ...(await everyOption(targets)), ...table } : table;
  const taking = optionOf(known, before.at(-1)!);
  if (taking?.[1].type === "string") return values(taking[0], taking[1], targets);
  if (typed.startsWith("-")) return optionNames(table, before);
  if (verb.words === "SHELL") return Object.keys(SHELLS).map((one) => [one, ""]);
  return verb.words === "FILE" || verb.words === "DEVICE" ? [FILES] : optionNames(table, before);
}

async function verbList(verbs: VerbTable): Promise<Completion[]> {
  const found = Object.entries(verbs).map(async ([name, verb]): Promise<Completion> => {
    const { description = "" } = (await verb.load([])).meta as { description?: string };
    return [name, description];
  });
  return [...(await Promise.all(found)), ["help", "what there is to say"]];
}

/** A type that does not exist, or not yet, is no reason to have no options. */
async function loadable(verb: VerbTable[string], argv: readonly string[]): Promise<CommandDef> {
  try {
    return await verb.load(argv);
  } catch {
    return verb.load([]);
  }
}

function optionOf(table: OptionTable, word: string): [string, OptionDef] | undefined {
  const name = word.replaceAll("_", "-");
  return Object.entries(table).find(
    ([long, { alias }]) => name === `--${long}` || (alias !== undefined && word === `-${alias}`),
  );
}

function optionNames(table: OptionTable, given: readonly string[]): Completion[] {
  const taken = new Set(given.map((word) => optionOf(table, word)?.[0]));
  return Object.entries(table).flatMap(([name, { alias, description }]): Completion[] => {
    if (taken.has(name)) return [];
    const long: Completion = [`--${name}`, description];
    return alias === undefined ? [long] : [long, [`-${alias}`, description]];
  });
}

/** By the option's name: each has one meaning wherever it occurs. */
function values(name: string, def: OptionDef, targets: TargetRegistry): Completion[] {
  const all = (words: readonly string[]): Completion[] => words.map((word) => [word, ""]);
  if (name === "number") return deviceIds().map((id) => [String(id), `/dev/ublkb${id}`]);
  if (name === "type") return all(Object.keys(targets));
  if (name === "mode") return all(MODES);
  if (name === "log-level") return all(LOG_LEVELS);
  if (name === "repair") return all(["leaks", "all"]);
  return def.valueHint === "FILE" ? [FILES] : [];
}
