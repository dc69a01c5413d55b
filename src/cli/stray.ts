/** Words that belong to no option, and what whoever typed them had probably in mind. */

import type { OptionDef } from "../target/target.ts";
import type { OptionTable } from "./options.ts";

/** What `-n` takes: a number, or the path of either node. */
export const DEVICE = /^(?:\/dev\/ublk[bc])?(\d+)$/;

interface Meant {
  option: string;
  what: string;
  fits(word: string, def: OptionDef): boolean;
}

/** The first that fits; a file may have any name. */
const MEANT: Meant[] = [
  { option: "type", what: "a type", fits: (word, { choices = [] }) => choices.includes(word) },
  { option: "number", what: "a device", fits: (word) => DEVICE.test(word) },
  { option: "file", what: "a file", fits: () => true },
];

/** `before`: the word that stands there; a number behind a switch is meant for that. */
export function strayHint(word: string, before: string | undefined, table: OptionTable): string {
  if (/^\d+$/.test(word) && before?.startsWith("-") === true) return "";
  const meant = MEANT.find(({ option, fits }) => option in table && fits(word, table[option]!));
  if (meant === undefined) return "";
  const short = `-${table[meant.option]!.alias}`;
  return `: ${meant.what} is named with ${short}: ${short} ${word}`;
}
