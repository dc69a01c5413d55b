/** src/cli/verbs.ts: every verb teaches by example, and each example is a line that parses. */

import { expect, test } from "bun:test";
import { addOptions, makePlan } from "../../../src/cli/add.ts";
import { imageArgument } from "../../../src/cli/image.ts";
import { type OptionTable, parseOptions } from "../../../src/cli/options.ts";
import { splitWords } from "../../../src/cli/run.ts";
import { verbTable } from "../../../src/cli/verbs.ts";
import { targets } from "../../../targets/index.ts";

const verbs = Object.entries(verbTable(targets, "0")).map(([name, verb]) => ({ name, verb }));
const examples = verbs.flatMap(({ name, verb }) =>
  verb.examples.map(([line]) => ({ name, verb, line })),
);

/** Words as a shell makes them, of lines that have nothing but single quotes. */
const shellWords = (line: string): string[] =>
  [...line.matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2]!);

test.each(verbs)("$name has a summary and an example", async ({ verb }) => {
  const { meta } = await verb.load([]);
  expect((meta as { description: string }).description).toMatch(/^[a-z].{10,}[^.]$/);
  expect(verb.examples.length).toBeGreaterThan(0);
  for (const [, what] of verb.examples) expect(what.length).toBeGreaterThan(8);
});

test.each(examples)("'$line' parses", async ({ name, verb, line }) => {
  const [program, called, ...argv] = shellWords(line);
  expect([program, called]).toEqual(["ublk", name]);
  const { options, command } = splitWords(argv);
  const table = ((await verb.load(options)).args ?? {}) as OptionTable;
  if (verb.words === "FILE") imageArgument(name, argv, table);
  else if (verb.words === "SHELL" || verb.words === "DEVICE") expect(argv).toHaveLength(1);
  else parseOptions(options, table);
  expect(command.length > 0).toBe(verb.words === "-- COMMAND…");
  if (name !== "add" && name !== "run") return;
  const { table: all, target } = await addOptions(targets, options);
  expect(makePlan(parseOptions(options, all), target!).target).toBe(target!.name);
});

test.each(Object.keys(targets))("there is an example of -t %s", (type) => {
  expect(examples.some(({ line }) => line.startsWith(`ublk add -t ${type} `))).toBe(true);
});
