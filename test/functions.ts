/** Finds functions in formatted source by their indentation, and what hot ones must not do. */

import type { Rule, SourceFile } from "./tidy.ts";

export interface FunctionText {
  name: string;
  /** Of its header, counted from 1. */
  line: number;
  /** Lines from header to closing brace. */
  length: number;
  body: string[];
}

const CONTROL = /^\s*(?:\} )?(?:if|else|for|while|do|switch|try|catch|finally|case|default)\b/;
const DECLARED = /\bfunction\b\*? ?(\w+)/;
const METHOD = /^\s+(?:static |override |protected |async |get |set |\*)*(#?\w+)\(/;
const ARROW = /(?:(\w+)(?:: [^=]+)? = |\(|, )(?:async )?(?:\([^]*\)|\w+)(?:: [^=]+)? => \{$/;

/**
 * The formatter closes a function with a brace under the beginning of its header. In tests only
 * named functions count: the length of a `describe` is that of its tests.
 */
export function functionsOf({ path, text }: SourceFile): FunctionText[] {
  const lines = text.split("\n");
  const isTest = /\.(test|story)\.ts$/.test(path);
  const found: FunctionText[] = [];
  lines.forEach((line, index) => {
    if (!line.endsWith("{")) return;
    const begin = headerOf(lines, index);
    const header = lines.slice(begin, index + 1).join("\n");
    const name = nameOf(header, isTest);
    if (name === undefined) return;
    const indent = /^\s*/.exec(lines[begin]!)![0];
    const end = lines.findIndex((other, at) => at > index && other.startsWith(`${indent}}`));
    if (end < 0) return;
    const body = lines.slice(index + 1, end);
    found.push({ name, line: begin + 1, length: end - begin + 1, body });
  });
  return found;
}

/** Where a header of several lines began: `): void {` stands at the indentation of its first. */
function headerOf(lines: string[], index: number): number {
  const indent = /^(\s*)\)/.exec(lines[index]!)?.[1];
  if (indent === undefined) return index;
  const isBegin = (line: string): boolean =>
    line.startsWith(indent) && /^[^\s)]/.test(line.slice(indent.length));
  return lines.slice(0, index).findLastIndex(isBegin);
}

function nameOf(header: string, isTest: boolean): string | undefined {
  const first = header.split("\n")[0]!;
  if (CONTROL.test(first)) return undefined;
  const declared = DECLARED.exec(first) ?? METHOD.exec(first);
  if (declared !== null && !header.endsWith("=> {")) return declared[1];
  if (isTest) return undefined;
  const arrow = ARROW.exec(header);
  return arrow === null ? undefined : (arrow[1] ?? "a callback");
}

/** What allocates, or may wait. */
const BANNED: [RegExp, string][] = [
  [/\b(?:async|await)\b/, "async"],
  [/\bBigInt\b|\b\d+n\b/, "BigInt"],
  [/\bnew\b/, "new"],
  [/\.\.\./, "spread"],
  [/`/, "template string"],
  [/\b(?:Map|Set)\b/, "Map or Set"],
  [/\bfor \(.* of /, "for…of"],
  [/\btry \{/, "try"],
  [/(?:(?<![=!<>])= |\(|, |\? |: |\breturn )\{/, "object literal"],
  [/(?:(?<![=!<>])= |\(|, |\? |: |\breturn )\[/, "array literal"],
];
/** The one place that may catch: what handlers throw. */
const MAY_TRY = "src/queue/loop.ts";

/** Files that begin with `// hot` allocate in constructors only, and on lines marked `// once`. */
export const hot: Rule = (file) => {
  if (!file.text.startsWith("// hot\n")) return [];
  const complaints = new Set<string>();
  for (const { name, body } of functionsOf(file)) {
    if (name === "constructor") continue;
    for (const line of body) {
      for (const what of bannedIn(line)) {
        if (what === "try" && file.path === MAY_TRY) continue;
        complaints.add(`${what} in ${name}: ${line.trim()}`);
      }
    }
  }
  return [...complaints];
};

function bannedIn(line: string): string[] {
  if (line.endsWith("// once") || /^\s*(?:\/?\*|case |default:)/.test(line)) return [];
  const code = line.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""').replace(/\/\/.*/, "");
  return BANNED.filter(([regex]) => regex.test(code)).map(([, what]) => what);
}
