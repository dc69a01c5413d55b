/** src/cli/complete.ts: what may come next, and that shells show it. */

import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { complete } from "../../../src/cli/complete.ts";
import { SHELLS } from "../../../src/cli/shells.ts";
import { verbTable } from "../../../src/cli/verbs.ts";
import { targets } from "../../../targets/index.ts";
import { tempFolder } from "../../temp.ts";

const verbs = verbTable(targets, "0");

async function next(line: string): Promise<string[]> {
  const found = await complete(verbs, targets, line.split(" "));
  return found.map(([value]) => value);
}

describe("behind", () => {
  test.each([
    ["ad", ["add"]],
    ["nosuch", []],
    ["nosuch ", []],
    ["help set", ["set_affinity"]],
    ["add -t ", Object.keys(targets)],
    ["add --type qc", ["qcow2"]],
    ["add --type=qc", ["--type=qcow2"]],
    ["add --type = qc", ["qcow2"]],
    ["add --mode auto", ["auto-zero-copy"]],
    ["add -t qcow2 --cache", ["--cache-size"]],
    ["add -t null --cache", []],
    ["add -t nosuch --dep", ["--depth"]],
    ["add -q 2 --queues", []],
    ["add -q 2 --queue", ["--queue-affinity"]],
    ["add -f x", ["<file>"]],
    ["add -t qcow2 -f ", ["<file>"]],
    ["check x", ["<file>"]],
    ["check --repair l", ["leaks"]],
    ["run -t null -- l", ["<file>"]],
    ["complete z", ["zsh"]],
    ["list -", ["--number", "-n", "--verbose", "-v", "--json"]],
  ])("'%s' comes %j", async (line, expected) => {
    expect(await next(line)).toEqual(expected);
  });

  test("nothing comes every verb, and behind a verb all of its options", async () => {
    expect((await next("")).toSorted()).toEqual([...Object.keys(verbs), "help"].toSorted());
    for (const [name, verb] of Object.entries(verbs)) {
      const args = (await verb.load([])).args ?? {};
      const options = (await next(`${name} --`)).map((option) => option.slice(2));
      expect(options).toEqual(Object.keys(args));
    }
  });
});

const folder = tempFolder();
const MAIN = join(import.meta.dir, "../../../src/main.ts");

/** Where `ublk` is a command, and files lie about. */
function place(): { cwd: string; env: Record<string, string | undefined> } {
  const cwd = folder("place");
  mkdirSync(`${cwd}/bin`, { recursive: true });
  writeFileSync(`${cwd}/vm one.qcow2`, "");
  writeFileSync(`${cwd}/bin/ublk`, `#!/bin/sh\nexec ${process.execPath} ${MAIN} "$@"\n`);
  chmodSync(`${cwd}/bin/ublk`, 0o755);
  return { cwd, env: { ...process.env, PATH: `${cwd}/bin:${process.env["PATH"]}` } };
}

test.each([
  ["ublk add -t qcow2 --ca", "ublk add -t qcow2 --cache-size "],
  ["ublk del --al", "ublk del --all "],
  ["ublk add -t qcow2 -f v", "ublk add -t qcow2 -f vm\\ one.qcow2 "],
  ["ublk add --type=qc", "ublk add --type=qcow2 "],
])("in a real bash, '%s' and TAB give '%s'", async (typed, line) => {
  let shown = "";
  const { cwd, env } = place();
  const shell = Bun.spawn(["bash", "--norc", "-i"], {
    cwd,
    env: { ...env, PS1: "> ", TERM: "dumb" },
    terminal: { cols: 200, rows: 20, data: (_, bytes) => void (shown += bytes.toString()) },
  });
  const appears = async (text: string): Promise<void> => {
    for (let tries = 0; !shown.includes(text) && tries < 400; tries++) await Bun.sleep(10);
    expect(shown).toContain(text);
  };
  shell.terminal!.write(`eval "$(ublk complete bash)"; echo rea''dy\n`);
  await appears("ready\r\n");
  shell.terminal!.write(`${typed}\t`);
  await appears(line);
  shell.kill("SIGKILL");
  await shell.exited;
  shell.terminal!.close();
});

for (const [shell, script] of Object.entries(SHELLS)) {
  test.skipIf(Bun.which(shell) === null)(`${shell} finds no fault in its script`, () => {
    const args = shell === "fish" ? ["--no-execute", "/dev/stdin"] : ["-n", "/dev/stdin"];
    const child = Bun.spawnSync([shell, ...args], { stdin: Buffer.from(script) });
    expect([child.exitCode, child.stderr.toString()]).toEqual([0, ""]);
  });
}
