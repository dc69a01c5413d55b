/** src/cli/run.ts: how its command is started. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { starting } from "../../../src/cli/run.ts";

const source = (path: string): string => JSON.stringify(join(import.meta.dir, "../../..", path));

test("a command that has to ignore nothing is started as it is", () => {
  expect(starting(["ls", "{}"], [])).toEqual(["ls", "{}"]);
});

test("its words reach a command that is to ignore signals, and so does its status", () => {
  const command = starting(["sh", "-c", 'echo "$1-$2"; exit 7', "sh", "a b", "-c"], ["SIGHUP"]);
  const child = Bun.spawnSync(command);
  expect([child.stdout.toString(), child.exitCode]).toEqual(["a b--c\n", 7]);
});

/** In a program that was started with these two ignored. */
const SCRIPT = `
  import { isIgnored } from ${source("src/control/process.ts")};
  import { starting } from ${source("src/cli/run.ts")};
  const all = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];
  const ignored = all.filter((signal) => isIgnored(signal));
  const command = ["sed", "-n", "s/^SigIgn:[^0-9a-f]*//p", "/proc/self/status"];
  const bits = [command, starting(command, ignored)].map((words) =>
    Number.parseInt(Bun.spawnSync(words).stdout.toString(), 16) & 0x4007);
  console.log(JSON.stringify([ignored, bits]));`;
const HUP_AND_QUIT = 0b101;

test("what was ignored at the start is so for the command, too", () => {
  const start = `trap "" HUP QUIT; exec "$0" -e "$1"`;
  const child = Bun.spawnSync(["sh", "-c", start, process.execPath, SCRIPT]);
  const [ignored, [plain, asStarted]] = JSON.parse(child.stdout.toString());
  expect(ignored).toEqual(["SIGHUP", "SIGQUIT"]);
  expect(asStarted).toBe(HUP_AND_QUIT);
  expect(plain).toBe(0); // else the shell in between is not needed
});
