/** `bun run check`: format, types, lint and tests in one go; one line a step, counts at the end. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { LabError } from "./vm/host.ts";
import { checkPackages } from "./vm/packages.ts";

const ROOT = join(import.meta.dir, "..");
const OXLINT = "node_modules/.bin/oxlint";
/** `bun test` is content with a folder that has no tests at all, so we say how many there are. */
const TESTS_MIN = 800;
/** A test that takes so long hangs; on a busy machine many take ten times what they need. */
const HANGS_MS = 60_000;

interface Outcome {
  ok: boolean;
  passed: number;
  failed: number;
  skipped: number;
  /** Shown when the step failed. */
  output: string;
  /** Shown in any case. */
  notes: string[];
}

interface Ran {
  status: number | null;
  output: string;
}

function run(command: string[]): Ran {
  const env = { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined };
  const child = Bun.spawnSync(command, { cwd: ROOT, env, stdin: "ignore" });
  return { status: child.exitCode, output: `${child.stdout}${child.stderr}` };
}

/** A program that passes or fails as a whole. */
function plain(command: string[]): Outcome {
  const { status, output } = run(command);
  const ok = status === 0;
  return { ok, passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0, output, notes: [] };
}

/** Installed as root; otherwise they are named, instead of all that would fail without them. */
async function packages(): Promise<Outcome> {
  const outcome = { ok: true, passed: 1, failed: 0, skipped: 0, output: "", notes: [] };
  try {
    await checkPackages();
    return outcome;
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    return { ...outcome, ok: false, passed: 0, failed: 1, output: error.message };
  }
}

function tests(): Outcome {
  // Each file by itself, on every CPU. Those do not read the time-out in bunfig.toml.
  const { status, output } = run([process.execPath, "test", "--parallel", `--timeout=${HANGS_MS}`]);
  const lines = output.split("\n");
  const count = (word: string): number =>
    Number(new RegExp(`^ *(\\d+) ${word}$`, "m").exec(output)?.[1] ?? 0);
  const [passed, failed] = [count("pass"), count("fail")];
  const notes = [...new Set(lines.filter((line) => line.startsWith("(skip)")))];
  if (passed + failed < TESTS_MIN) notes.push(`only ${passed + failed} tests, not ${TESTS_MIN}`);
  const ok = status === 0 && failed === 0 && passed >= TESTS_MIN;
  return {
    ok,
    passed,
    failed: ok ? 0 : Math.max(failed, 1),
    skipped: count("skip") + count("todo"),
    output: withoutTheGood(lines),
    notes,
  };
}

/** What failed and how; neither what passed nor the names of files in which all did. */
function withoutTheGood(lines: string[]): string {
  const rest = lines.filter((line) => line !== "" && !/^\((?:pass|skip)\)/.test(line));
  const isFile = (line: string | undefined): boolean => /^\S+\.test\.ts:$/.test(line ?? "");
  return rest.filter((line, at) => !isFile(line) || !isFile(rest[at + 1])).join("\n");
}

const bun = process.execPath;
const steps: [name: string, run: () => Outcome | Promise<Outcome>][] = [
  ["packages", packages],
  ["format", () => plain([bun, "fmt", "--check"])],
  ["types", () => plain([bun, "check", "--no-script"])],
  ["lint", () => plain([OXLINT, "--deny-warnings"])],
  ["tests", tests],
];
if (!existsSync(join(ROOT, OXLINT))) {
  steps.unshift(["install", () => plain([bun, "install", "--frozen-lockfile"])]);
}

const total = { passed: 0, failed: 0, skipped: 0 };
for (const [name, step] of steps) {
  const begin = performance.now();
  const outcome = await step();
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  if (!outcome.ok) console.log(outcome.output.trimEnd());
  for (const line of outcome.notes) console.log(`  ${line}`);
  console.log(`${name.padEnd(9)} ${outcome.ok ? "ok" : "FAILED"} ${seconds} s`);
  total.passed += outcome.passed;
  total.failed += outcome.failed;
  total.skipped += outcome.skipped;
}
const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
console.log(`${total.passed} passed, ${total.failed} failed${skipped}`);
process.exitCode = total.failed > 0 ? 1 : 0;
