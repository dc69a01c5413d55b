/** src/cli/man.ts: the manual has all that help has, and roff finds no fault in it. */

import { expect, test } from "bun:test";
import { manual } from "../../../src/cli/man.ts";
import { verbTable } from "../../../src/cli/verbs.ts";
import { targets } from "../../../targets/index.ts";

const verbs = verbTable(targets, "1.2.3");
const page = await manual(verbs, targets, "1.2.3");
/** As it is read: without requests, fonts and escapes. */
const text = page
  .replaceAll(/^\.(SH|SS|B|I|BR) /gm, "")
  .replaceAll(/\\f[BIR]/g, "")
  .replaceAll("\\-", "-")
  .replaceAll("\\e", "\\");

test.each(Object.entries(verbs))("it has %s, its options and its examples", async (name, verb) => {
  expect(text).toContain(`"ublk ${name}`);
  const args = (await verb.load([])).args ?? {};
  for (const [option, { alias }] of Object.entries(args as Record<string, { alias?: string }>)) {
    expect(text).toContain(alias === undefined ? `\n--${option}` : `\n-${alias}, --${option}`);
  }
  for (const [line] of verb.examples) expect(text).toContain(line);
});

test.each(Object.entries(targets))("it has the options of -t %s", async (name, load) => {
  const { summary, options } = await load();
  const part = text.slice(text.indexOf(`"-t ${name}"`)).split("\n.SS")[0]!;
  expect(part.toLowerCase()).toContain(summary.toLowerCase());
  for (const option of Object.keys(options)) expect(part).toContain(`--${option}`);
});

test("each part that a manual has is there once, in order", () => {
  const titles = [...page.matchAll(/^\.SH (.+)/gm)].map((match) => match[1]);
  expect(titles).toEqual([
    ...["NAME", "SYNOPSIS", "DESCRIPTION", "VERBS", "TARGETS", "EXIT STATUS", "FILES", "SEE ALSO"],
  ]);
  expect(page).toStartWith('.TH UBLK 1 "" "ublk 1.2.3"');
});

for (const [program, ...args] of [
  ["groff", "-ww", "-man", "-Tutf8", "-z"],
  ["mandoc", "-T", "lint", "-W", "error"],
]) {
  test.skipIf(Bun.which(program!) === null)(`${program} has nothing to say against it`, () => {
    const child = Bun.spawnSync([program!, ...args], { stdin: Buffer.from(page) });
    expect([child.exitCode, child.stderr.toString()]).toEqual([0, ""]);
  });
}
