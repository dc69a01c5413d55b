/** Collects what the sources say to people when something fails: each message with its place. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "..");

export interface Message {
  /** What stands for a value is written as an ellipsis. */
  text: string;
  path: string;
  line: number;
}

/** Where a message begins: an error's argument, a reason, a hint, a constant that becomes one. */
const OPENINGS = [
  /\bnew (?:UsageError|ImageError)\(/g,
  /\b(?:refuse|refused)\(/g,
  /\breason: /g,
  /\bhint: /g,
  /\bconst (?:reason|hint|why|what|note)(?:: \w+(?:<[^>]*>)?)? =\s/g,
  /\bwithHint\(/g,
];
/** `return "…"` says something only in functions that answer a hint. */
const HINT_FUNCTIONS = /^function (?:\w*[hH]int\w*)\([^]*?\n}/gm;

/** Two words, or what is said of a subject; the rest are names of calls and options. */
const SENTENCE = /[a-z]{2,} [a-z]|^(?:is|has) /i;

export function messagesOf(path: string, text: string): Message[] {
  const found = new Map<number, string>();
  const collect = (from: number, to: number): void => {
    for (const [at, literal] of literals(text, from, to)) found.set(at, literal);
  };
  for (const opening of OPENINGS) {
    for (const match of text.matchAll(opening)) {
      const from = match.index + match[0].length;
      collect(from, endOfExpression(text, from));
    }
  }
  for (const match of text.matchAll(HINT_FUNCTIONS)) {
    for (const answer of match[0].matchAll(/\breturn (?=["`])/g)) {
      const from = match.index + answer.index + answer[0].length;
      collect(from, endOfExpression(text, from));
    }
  }
  return [...found]
    .filter(([, message]) => SENTENCE.test(message))
    .toSorted(([a], [b]) => a - b)
    .map(([at, message]) => ({ text: message, path, line: text.slice(0, at).split("\n").length }));
}

/** Up to the comma, semicolon or bracket that ends an expression or a list of arguments. */
function endOfExpression(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const char = text[at]!;
    if (char === '"' || char === "`") at = endOfLiteral(text, at);
    else if ("([{".includes(char)) depth++;
    else if (")]}".includes(char) && --depth < 0) return at;
    else if (char === ";" && depth === 0) return at;
  }
  return text.length;
}

/** String and template literals, joined where a `+` stands between them. */
function literals(text: string, from: number, to: number): [at: number, message: string][] {
  const all: { at: number; end: number; message: string }[] = [];
  for (let at = from; at < to; at++) {
    if (text[at] !== '"' && text[at] !== "`") continue;
    const end = endOfLiteral(text, at);
    const message = plain(text.slice(at + 1, end));
    const before = all.at(-1);
    if (before !== undefined && /^\s*\+\s*$/.test(text.slice(before.end + 1, at))) {
      before.message += message;
      before.end = end;
    } else all.push({ at, end, message });
    at = end;
  }
  return all.map(({ at, message }) => [at, message]);
}

/** The quote that closes the literal which opens at `at`. */
function endOfLiteral(text: string, at: number): number {
  const quote = text[at];
  for (let end = at + 1; end < text.length; end++) {
    if (text[end] === "\\") end++;
    else if (quote === "`" && text.startsWith("${", end)) end = endOfExpression(text, end + 2);
    else if (text[end] === quote) return end;
  }
  return text.length;
}

function plain(literal: string): string {
  let message = "";
  for (let at = 0; at < literal.length; at++) {
    if (literal.startsWith("${", at)) {
      message += "…";
      at = endOfExpression(literal, at + 2);
    } else message += literal[at];
  }
  return message.replaceAll("\\", "").replaceAll(/…+/g, "…");
}

/** Everything in the product's sources. */
export function allMessages(): Message[] {
  const glob = new Bun.Glob("{src,ffi,targets}/**/*.ts");
  return [...glob.scanSync({ cwd: ROOT })]
    .toSorted()
    .flatMap((path) => messagesOf(path, readFileSync(join(ROOT, path), "utf8")));
}
