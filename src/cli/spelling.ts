/** Other spellings of our options, as the words that parseArgs takes. */

import { UsageError } from "../target/parse.ts";
import type { OptionDef } from "../target/target.ts";
import type { OptionTable } from "./options.ts";

/** Words with names that the table has; `off` are switches that were given as 0. */
export interface Spelled {
  args: string[];
  off: string[];
}

export function spelled(argv: readonly string[], table: OptionTable): Spelled {
  const named = argv.map((word) => ourName(word, table));
  return foldBits("number" in table ? joinAny(named) : named, table);
}

/** `-n -1` of ublksrv, kublk and rublk: any number. parseArgs would see two options. */
function joinAny(argv: readonly string[]): string[] {
  const asks = (at: number): boolean =>
    ["-n", "--number"].includes(argv[at]!) && argv[at + 1] === "-1";
  return argv.flatMap((word, at) => {
    if (asks(at)) return ["--number=-1"];
    return asks(at - 1) ? [] : [word];
  });
}

/** ublksrv's names and ours: where the verb has ours, and no other option of that name. */
const SYNONYMS: Record<string, string> = {
  "uring-comp": "comp-in-task",
  "need-get-data": "get-data",
  zerocopy: "zero-copy",
  "batch-io": "batch",
  "user-copy": "usercopy",
  queue: "queues",
};

/** `--max_io_buf_bytes` is what ublksrv calls it. A value behind `=` stays as it is. */
function ourName(word: string, table: OptionTable): string {
  if (!word.startsWith("--")) return word;
  const [name = "", ...value] = word.slice(2).split("=");
  const hyphened = name.replaceAll("_", "-");
  const ours = Object.hasOwn(SYNONYMS, hyphened) ? SYNONYMS[hyphened]! : hyphened;
  const known = ours in table && !(hyphened in table) ? ours : hyphened;
  return `--${[known, ...value].join("=")}`;
}

type Switch = [name: string, def: OptionDef];

const switchOf = (table: OptionTable, word: string | undefined): Switch | undefined =>
  Object.entries(table).find(
    ([name, def]) => "takesBit" in def && (word === `-${def.alias}` || word === `--${name}`),
  );

/** `-u1` and `--comp-in-task=1` become two words. */
function detachBit(word: string, table: OptionTable): string[] {
  const [, short, option = short, bit] = /^(?:(-\w)|(--[\w-]+)=)([01])$/.exec(word) ?? [];
  return switchOf(table, option) === undefined ? [word] : [option!, bit!];
}

/** `-u 1` becomes `-u`; `-u 0` disappears and is noted. */
function foldBits(argv: readonly string[], table: OptionTable): Spelled {
  const args: string[] = [];
  const off: string[] = [];
  const words = argv.flatMap((word) => detachBit(word, table));
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    const found = switchOf(table, word);
    const bit = words[at + 1];
    if (found === undefined || (bit !== "0" && bit !== "1")) {
      args.push(word);
      continue;
    }
    at++;
    if (off.includes(found[0])) throw new UsageError(`--${found[0]} is given twice`);
    if (bit === "1") args.push(word);
    else off.push(found[0]);
  }
  return { args, off };
}
