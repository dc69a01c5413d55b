/** Help, README and option tables say the same. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { verbTable } from "../src/cli/verbs.ts";
import { targets } from "../targets/index.ts";

const ROOT = join(import.meta.dir, "..");
const README = await Bun.file(join(ROOT, "README.md")).text();
const VERBS = [
  ...Object.keys(verbTable(targets, "0")).map((verb) => [verb]),
  ...Object.keys(targets).map((type) => ["add", "-t", type]),
];

const LONG = /(?<![\w-])--[a-z][a-z-]+/g;

async function help(argv: string[]): Promise<string> {
  const command = [process.execPath, "src/main.ts", ...argv, "--help"];
  return Bun.$`${command}`
    .cwd(ROOT)
    .env({ ...process.env, CI: "1" })
    .text();
}

/** Long options in the option column of a help text. */
const offered = (text: string): string[] =>
  text.split("\n").flatMap((line) => (/^\s+(?:-\w, )?--/.test(line) ? [line.match(LONG)![0]] : []));

/** Long options in the first column of the README's tables. */
const documented = README.split("\n")
  .filter((line) => line.startsWith("| `-"))
  .flatMap((line) => line.split("|")[1]!.match(LONG) ?? []);

const helped = (await Promise.all(VERBS.map(help))).flatMap(offered);

test("every option that help knows is in a table of the README", () => {
  expect(helped.length).toBeGreaterThan(30);
  expect(helped.filter((option) => !documented.includes(option))).toEqual([]);
});

test("every option in a table of the README is one that help knows", () => {
  expect(documented.filter((option) => !helped.includes(option))).toEqual([]);
});

test("every verb is in the README", async () => {
  const root = await help([]);
  const verbs = [...root.matchAll(/^ +([\w-]+) {2,}/gm)].map((match) => match[1]);
  expect(verbs.length).toBeGreaterThan(5);
  expect(verbs.filter((verb) => !README.includes(`ublk ${verb}`))).toEqual([]);
});

test("every file that the architecture's tables name exists", async () => {
  const text = await Bun.file(join(ROOT, "src/README.md")).text();
  const named = [...text.matchAll(/`((?:src|ffi|targets)\/[\w/]+\.ts)`/g)].map(
    (match) => match[1]!,
  );
  expect(named.length).toBeGreaterThan(5);
  const exists = await Promise.all(named.map((path) => Bun.file(join(ROOT, path)).exists()));
  expect(named.filter((_, index) => !exists[index])).toEqual([]);
});
