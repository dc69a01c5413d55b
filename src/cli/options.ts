/** Options: the tables that are shared, and the strictness that citty lacks. */

import { parseArgs, type ParseArgsConfig } from "node:util";
import type { ArgsDef } from "citty";
import { UsageError } from "../target/parse.ts";
import type { OptionDef, OptionValues, TargetRegistry } from "../target/target.ts";
import { spelled } from "./spelling.ts";
import { DEVICE, strayHint } from "./stray.ts";
import { didYouMean } from "./suggest.ts";

export type OptionTable = Record<string, OptionDef>;

/** A switch that scripts also write as `-u 1` or `-u 0`. */
export interface SwitchDef extends OptionDef {
  type: "boolean";
  takesBit: true;
}

export const ID_OPTION: OptionDef = {
  type: "string",
  alias: "n",
  valueHint: "ID",
  description: "the device: its number, or /dev/ublkbN",
};

export const JSON_OPTION: OptionDef = {
  type: "boolean",
  description: "print JSON, of a stable schema",
};

/** In citty's type, for dispatch and help. */
export const cittyArgs = (table: OptionTable): ArgsDef => table;

/** Of every type: somebody may say which file before saying which type. */
export async function everyOption(targets: TargetRegistry): Promise<OptionTable> {
  const all = await Promise.all(Object.values(targets).map((load) => load()));
  return Object.assign({}, ...all.map((target) => target.options)) as OptionTable;
}

/**
 * The values of the options in `argv`. Whatever the table does not have is a usage error: an
 * unknown option, one given twice, a missing value, a stray word.
 */
export function parseOptions(argv: readonly string[], table: OptionTable): OptionValues {
  const options = parserOptions(table);
  const { args, off } = spelled(argv, table);
  try {
    const parsed = parseArgs({
      args,
      options,
      strict: true,
      tokens: true,
      allowPositionals: false,
    });
    refuseRepeats(parsed.tokens);
    for (const name of off) {
      if (parsed.values[name] !== undefined) throw new UsageError(`--${name} is given twice`);
      parsed.values[name] = false;
    }
    for (const name of Object.keys(NO_EFFECT)) delete parsed.values[name];
    return parsed.values as OptionValues;
  } catch (error) {
    throw explain(error, table, args);
  }
}

/** The value of one option, found before it is known which others there are. */
export function peekOption(
  argv: readonly string[],
  table: OptionTable,
  name: string,
): string | undefined {
  const args = spelled(argv, table).args.map((word) => untilUnknown(word, table));
  const { values } = parseArgs({ args, options: parserOptions(table), strict: false });
  const value = values[name];
  return typeof value === "string" ? value : undefined;
}

/** What stands behind an unknown letter may be its value: the `t` in -f/tmp/a.img is no -t. */
function untilUnknown(word: string, table: OptionTable): string {
  if (!/^-[^-]/.test(word)) return word;
  for (let at = 1; at < word.length; at++) {
    const def = Object.values(table).find(({ alias }) => alias === word[at]);
    if (def === undefined) return word.slice(0, at + 1);
    if (def.type === "string") break;
  }
  return word;
}

/**
 * Options of ublksrv's add: which of its debug messages to print, where ours have a level; and to
 * ask for UBLK_F_QUIESCE, which each device has here that outlives its server.
 */
const NO_EFFECT = { "debug-mask": { type: "string" }, quiesce: { type: "boolean" } } as const;

function parserOptions(table: OptionTable): NonNullable<ParseArgsConfig["options"]> {
  const options: NonNullable<ParseArgsConfig["options"]> = {};
  for (const [name, def] of Object.entries(table)) {
    options[name] =
      def.alias === undefined ? { type: def.type } : { type: def.type, short: def.alias };
  }
  if ("log-level" in table) Object.assign(options, NO_EFFECT);
  return options;
}

function refuseRepeats(tokens: readonly { kind: string; name?: string }[]): void {
  const seen = new Set<string>();
  for (const { kind, name } of tokens) {
    if (kind !== "option" || name === undefined) continue;
    if (seen.has(name)) throw new UsageError(`--${name} is given twice`);
    seen.add(name);
  }
}

/** parseArgs has its own words, long ones; the first sentence is the one that matters. */
function explain(error: unknown, table: OptionTable, args: string[]): unknown {
  if (!(error instanceof TypeError)) return error;
  const message = error.message;
  const unknown = /^Unknown option '(-*)([^']+)'/.exec(message);
  // Of a bundle such as -zx it names the bare letter.
  if (unknown !== null) {
    const option = `${unknown[1] || "-"}${unknown[2]}`;
    const names = [...Object.keys(table), "help"].map((name) => `--${name}`);
    const meant = option.startsWith("--") ? didYouMean(option, names) : "";
    return new UsageError(`unknown option '${option}'${meant}`);
  }
  const stray = /^Unexpected argument '([^']+)'/.exec(message)?.[1];
  if (stray !== undefined) {
    const hint = strayHint(stray, args[args.indexOf(stray) - 1], table);
    return new UsageError(`unexpected word '${stray}'${hint}`);
  }
  if (/^Option .* is ambiguous/.test(message)) return new UsageError(ambiguity(args, table));
  return new UsageError(message.split(/\.\s/)[0]!.replace(/^Option/, "option"));
}

/** A value that begins with a hyphen may as well be the next option, and the value be missing. */
function ambiguity(args: string[], table: OptionTable): string {
  const { tokens } = parseArgs({
    args,
    options: parserOptions(table),
    strict: false,
    tokens: true,
  });
  for (const token of tokens) {
    if (token.kind !== "option" || token.inlineValue !== false) continue;
    if (!/^-./.test(token.value)) continue;
    const whole = `--${token.name}=${token.value}`;
    return `--${token.name} '${token.value}': this looks like an option; for a value write ${whole}`;
  }
  throw new Error(`nothing is ambiguous in ${args.join(" ")}`);
}

const ID_MAX = 2 ** 20 - 1;

/** The device that `-n` names. */
export function parseId(text: string): number {
  const id = Number(DEVICE.exec(text)?.[1]);
  if (id <= ID_MAX) return id;
  throw new UsageError(`-n '${text}': give a device number from 0 to ${ID_MAX}, or its path`);
}

/** Of a verb that is about one device. */
export function neededId(values: OptionValues): number {
  const text = values["number"];
  if (text === undefined) throw new UsageError("say which device: -n ID");
  return parseId(String(text));
}

/** Of a verb that is about one device or, as undefined, about all: one of the two is to be said. */
export function idOrAll(values: OptionValues): number | undefined {
  const { number, all } = values;
  if (number === undefined && all !== true) {
    throw new UsageError("say which device: -n ID, or -a");
  }
  if (number !== undefined && all === true) {
    throw new UsageError("-n and -a exclude each other: one device, or all");
  }
  return number === undefined ? undefined : parseId(String(number));
}
