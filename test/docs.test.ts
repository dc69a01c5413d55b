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

/** Long options in the first column of a text's tables. */
const tabled = (text: string): string[] =>
  text
    .split("\n")
    .filter((line) => line.startsWith("| `-"))
    .flatMap((line) => line.split("|")[1]!.match(LONG) ?? []);

const documented = tabled(README);

const helped = (await Promise.all(VERBS.map(help))).flatMap(offered);

test("every option that help knows is in a table of the README", () => {
  expect(helped.length).toBeGreaterThan(30);
  expect(helped.filter((option) => !documented.includes(option))).toEqual([]);
});

test("every option in a table of the README is one that help knows", () => {
  expect(documented.filter((option) => !helped.includes(option))).toEqual([]);
});

test("a target's own README has a table of the target's own options", async () => {
  const { options } = await targets["qcow2"]!();
  const text = await Bun.file(join(ROOT, "targets/qcow2/README.md")).text();
  expect(tabled(text).toSorted()).toEqual(
    Object.keys(options)
      .map((name) => `--${name}`)
      .toSorted(),
  );
});

test("every verb is in the README", async () => {
  const root = await help([]);
  const verbs = [...root.matchAll(/^ +([\w-]+) {2,}/gm)].map((match) => match[1]);
  expect(verbs.length).toBeGreaterThan(5);
  expect(verbs.filter((verb) => !README.includes(`ublk ${verb}`))).toEqual([]);
});
