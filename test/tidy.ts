/** The rules of style, each a function from a file to what is wrong with it. */

import { existsSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { functionsOf } from "./functions.ts";

export interface SourceFile {
  /** From the repository's root. */
  path: string;
  text: string;
}

export type Rule = (file: SourceFile) => string[];

const isTypeScript = ({ path }: SourceFile): boolean => path.endsWith(".ts");
const linesOf = ({ text }: SourceFile): string[] => text.split("\n");

/** Which area may import which, besides itself. The two entries see both sides. */
const MAY_IMPORT: Record<string, string[]> = {
  ffi: [],
  "src/target": ["ffi"],
  "src/queue": ["ffi", "src/target"],
  "src/control": ["ffi", "src/target"],
  "src/cli": ["src/control", "src/target"],
  targets: ["src/target"],
};
const ENTRIES = new Set(["src/main.ts", "src/worker.ts"]);
/** Packages, by the areas that may use them. */
const PACKAGES: Record<string, string[]> = { citty: ["src/main.ts", "src/cli"] };

function areaOf(path: string): string | undefined {
  return Object.keys(MAY_IMPORT).find((area) => path.startsWith(`${area}/`));
}

function importsOf(text: string): string[] {
  const found = text.matchAll(/(?:^|\s)(?:from|import\(|import)\s*"([^"]+)"/gm);
  return [...found].map((match) => match[1]!);
}

/** Who may import whom: src/README.md has the table. */
export const imports: Rule = (file) => {
  const area = areaOf(file.path);
  const complaints: string[] = [];
  for (const specifier of isTypeScript(file) ? importsOf(file.text) : []) {
    const complaint = specifier.startsWith(".")
      ? ownImport(file.path, area, normalize(join(dirname(file.path), specifier)))
      : packageImport(file.path, specifier);
    if (complaint !== undefined) complaints.push(complaint);
  }
  return complaints;
};

function ownImport(path: string, area: string | undefined, to: string): string | undefined {
  const isTest = path.startsWith("test/");
  if (to.startsWith("test/") && !isTest) return `imports ${to}, which is a test's`;
  if (isTest || ENTRIES.has(path) || area === undefined) return undefined;
  const target = areaOf(to);
  if (area === "targets") return targetImport(path, to, target);
  if (target === area || MAY_IMPORT[area]!.includes(target ?? "")) return undefined;
  return `${area} must not import ${to}`;
}

/** A target has its own file or folder; only the index knows them all. */
function targetImport(path: string, to: string, area: string | undefined): string | undefined {
  if (area === "src/target" || path === "targets/index.ts") return undefined;
  const folder = dirname(path);
  if (folder !== "targets" && to.startsWith(`${folder.split("/").slice(0, 2).join("/")}/`)) {
    return undefined;
  }
  return `a target must not import ${to}`;
}

function packageImport(path: string, specifier: string): string | undefined {
  if (/^(node:|bun(:|$))/.test(specifier) || path.startsWith("test/")) return undefined;
  const users = PACKAGES[specifier];
  if (users?.some((user) => path === user || path.startsWith(`${user}/`))) return undefined;
  return `must not import the package ${specifier}`;
}

const LINE_MAX = 100;
const FILE_MAX = 500;
const FUNCTION_MAX = 60;

/** A comment can be broken, whatever it has in it. */
const COMMENT = /(?:^|\s)\/[/*]+ .*$|^\s*\* .*$/;
/** What nobody can break: template strings, long strings, a regular expression on its own. */
const UNBREAKABLE = /`|"[^"]{50,}"|^\s*\/\^.*\/[a-z]*;$/;

export const lineLengths: Rule = (file) => {
  const isLong = (line: string): boolean =>
    isTypeScript(file) && line.length > LINE_MAX && !UNBREAKABLE.test(line.replace(COMMENT, ""));
  return linesOf(file).flatMap((line, index) =>
    isLong(line) ? [`line ${index + 1} has ${line.length} characters`] : [],
  );
};

/** 200 lines are the aim; a file of more than 500 has to be split. */
export const sizes: Rule = (file) => {
  if (!isTypeScript(file)) return [];
  const lines = linesOf(file);
  const complaints: string[] = [];
  if (lines.length > FILE_MAX) complaints.push(`has ${lines.length} lines`);
  for (const { name, line, length } of functionsOf(file)) {
    if (length > FUNCTION_MAX) complaints.push(`${name} (line ${line}) has ${length} lines`);
  }
  return complaints;
};

/** As targets are typed: fault_inject. */
export const names: Rule = (file) => {
  const name = file.path.split("/").at(-1)!;
  const good = !isTypeScript(file) || /^[a-z0-9]+(_[a-z0-9]+)*(\.test|\.story)?\.ts$/.test(name);
  return good ? [] : ["its name is not in snake_case"];
};

/** The first thing in a file says what it is for; a test beside its source need not. */
export const openings: Rule = (file) => {
  if (!isTypeScript(file) || isBesideItsSource(file.path)) return [];
  const text = file.text.replace(/^#!.*\n/, "").replace(/^\/\/ hot\n/, "");
  const block = /^\/\*\*([^]*?)\*\//.exec(text)?.[1];
  const slashes = /^(?:\/\/ ?.*\n)+/.exec(text)?.[0].replaceAll(/^\/\/ ?/gm, "");
  const sentence = (block ?? slashes ?? "").replaceAll(/^\s*\* ?/gm, "").trim();
  return /^\S[^]*[.:!?]$/.test(sentence) ? [] : ["does not open with a sentence"];
};

/** A test for a/b.ts is test/a/b.test.ts; whole folders may have tests named for what they show. */
export const mirrors: Rule = (file) => {
  const match = /^test\/((?:ffi|src|targets)\/.*)\.test\.ts$/.exec(file.path);
  if (match === null || FOLDER_TESTS.some((folder) => file.path.startsWith(folder))) return [];
  return existsSync(join(import.meta.dir, "..", `${match[1]}.ts`)) ? [] : [`has no ${match[1]}.ts`];
};
const FOLDER_TESTS = ["test/targets/qcow2/"];

const LEFT_OVER = new RegExp(["\\b(?:TO", "DO|FIX", "ME|X{3})\\b"].join(""));

/** What is to be done goes where it is seen. */
export const leftovers: Rule = (file) => complainOf(file, [[LEFT_OVER, "is left over"]]);

const FOREIGN: [RegExp, string][] = [
  [/(?<![\w$])\/(?:root|(?:home|Users)\/[\w.-]+)\//i, "is in somebody's home directory"],
  [/\b(?:deb|security|ftp|snapshot)\.debian\.org/i, "is an archive's address"],
  [/registry\.[a-z.]*(?:npmjs|yarn)/i, "is a registry's address"],
];

/** Nothing that is so on one machine and otherwise on the next. */
export const foreign: Rule = (file) => complainOf(file, FOREIGN);

function complainOf(file: SourceFile, patterns: readonly [RegExp, string][]): string[] {
  return linesOf(file).flatMap((line, index) =>
    patterns.flatMap(([regex, what]) => {
      const found = regex.exec(line)?.[0];
      return found === undefined ? [] : [`line ${index + 1}: '${found}' ${what}`];
    }),
  );
}

/** Files of the tree that a text speaks of have to be there. */
export const mentions: Rule = (file) => {
  if (!file.path.endsWith(".md")) return [];
  const found = file.text.matchAll(/`((?:src|ffi|targets|test)\/[\w/.]+\.\w+)`/g);
  const missing = [...found].map((match) => match[1]!).filter((path) => !isThere(path));
  return missing.map((path) => `speaks of ${path}, which is not there`);
};

const isBesideItsSource = (path: string): boolean =>
  path.endsWith(".test.ts") && isThere(path.replace(/test\.ts$/, "ts"));

const isThere = (path: string): boolean => existsSync(join(import.meta.dir, "..", path));
