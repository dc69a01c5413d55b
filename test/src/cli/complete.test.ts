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

/** What is typed, what TAB makes of it, and its last word alone, as fish names it. */
const LINES = [
  ["ublk comp", "ublk complete ", "complete"],
  ["ublk add -t qcow2 --ca", "ublk add -t qcow2 --cache-size ", "--cache-size"],
  ["ublk del --al", "ublk del --all ", "--all"],
  ["ublk check -r a", "ublk check -r all ", "all"],
  ["ublk add -t qcow2 -f v", "ublk add -t qcow2 -f vm\\ one.qcow2 ", "vm one.qcow2"],
  ["ublk add -t loop --file=v", "ublk add -t loop --file=vm\\ one.qcow2 ", "--file=vm one.qcow2"],
  ["ublk add --type=qc", "ublk add --type=qcow2 ", "--type=qcow2"],
] as const;
/** A shell begins in a fraction of a second, where nothing else runs. */
const BUSY_MACHINE_MS = 30_000;
const START = {
  bash: { args: ["--norc", "-i"], first: 'eval "$(ublk complete bash)"' },
  zsh: {
    args: ["-f", "-i"],
    first: 'autoload compinit; compinit -D -u; eval "$(ublk complete zsh)"',
  },
};

for (const name of ["bash", "zsh"] as const) {
  const inIt = test.skipIf(Bun.which(name) === null);
  inIt.each(LINES)(
    `in a real ${name}, '%s' and TAB give '%s'`,
    (typed, line) => typeInto(name, typed, line),
    BUSY_MACHINE_MS,
  );
}

async function typeInto(name: keyof typeof START, typed: string, line: string): Promise<void> {
  let shown = "";
  const { cwd, env } = place();
  const shell = Bun.spawn([name, ...START[name].args], {
    cwd,
    env: { ...env, PS1: "> ", TERM: "dumb" },
    terminal: { cols: 200, rows: 20, data: (_, bytes) => void (shown += bytes.toString()) },
  });
  const appears = async (text: string): Promise<void> => {
    for (let tries = 0; !shown.includes(text) && tries < BUSY_MACHINE_MS / 20; tries++)
      await Bun.sleep(10);
    expect(shown).toContain(text);
  };
  shell.terminal!.write(`${START[name].first}; echo rea''dy\n`);
  await appears("ready\r\n");
  shell.terminal!.write(`${typed}\t`);
  await appears(line);
  shell.kill("SIGKILL");
  await shell.exited;
  shell.terminal!.close();
}

test.skipIf(Bun.which("fish") === null)("in a real fish the same lines are completed", () => {
  const { cwd, env } = place();
  const asked = LINES.map(([typed]) => `complete -C '${typed}'; echo`).join("\n");
  const child = Bun.spawnSync(["fish", "--no-config"], {
    ...{ cwd, env: { ...env, HOME: cwd, XDG_CONFIG_HOME: cwd, XDG_DATA_HOME: cwd } },
    stdin: Buffer.from(`ublk complete fish | source\n${asked}\n`),
  });
  const answers = child.stdout.toString().trimEnd().split("\n\n");
  const last = answers.map((answer) => answer.split("\t")[0]!);
  expect(last).toEqual(LINES.map(([, , word]) => word));
  expect(child.stderr.toString()).toBe("");
});

for (const [shell, script] of Object.entries(SHELLS)) {
  test.skipIf(Bun.which(shell) === null)(`${shell} finds no fault in its script`, () => {
    const args = shell === "fish" ? ["--no-execute", "/dev/stdin"] : ["-n", "/dev/stdin"];
    const child = Bun.spawnSync([shell, ...args], { stdin: Buffer.from(script) });
    expect([child.exitCode, child.stderr.toString()]).toEqual([0, ""]);
  });
}
