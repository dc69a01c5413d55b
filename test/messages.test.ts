/** docs/troubleshooting.md has every message of the sources, and quotes what ublk says. */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { ENODEV, SysError } from "../ffi/errno.ts";
import { reportOf } from "../src/control/report.ts";
import { allMessages, messagesOf } from "./messages.ts";

const ROOT = join(import.meta.dir, "..");
const MANUAL = await Bun.file(join(ROOT, "docs/troubleshooting.md")).text();
const explained = [...MANUAL.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!);

test("messages are found where they are made", () => {
  const texts = (source: string): string[] => messagesOf("a.ts", source).map(({ text }) => text);
  expect(texts('throw new UsageError("say which: -n ID");')).toEqual(["say which: -n ID"]);
  expect(texts("throw new UsageError(`--${x} '${y.join(`, `)}': not so`);")).toEqual([
    ...["--… '…': not so"],
  ]);
  expect(texts('new SysError({ op: "open", reason: a ? "is empty" : "is gone" })')).toEqual([
    ...["is empty", "is gone"],
  ]);
  expect(texts('const hint =\n  "one and " +\n  `two ${x}`;')).toEqual(["one and two …"]);
  expect(texts('e.withHint("run as root")')).toEqual(["run as root"]);
  expect(texts('const x = "not a message";\nf("nor this one");')).toEqual([]);
  expect(allMessages().length).toBeGreaterThan(150);
});

test("every message has its place in docs/troubleshooting.md", () => {
  const missing = allMessages().filter(
    ({ text }) => !explained.some((said) => said.includes(text)),
  );
  expect(missing.map(({ text, path, line }) => `${path}:${line}: ${text}`)).toEqual([]);
});

/** The rows of a table whose second column is a command line. */
const ROWS = [...MANUAL.matchAll(/^\| `([^`]+)` +\| `ublk ?([^`]*)` +\|$/gm)].map(
  ([, message, line]) => [line!, message!] as const,
);

const BUSY_MACHINE_MS = 60_000;

/** A message with its ellipses as a pattern. */
function pattern(message: string): RegExp {
  return new RegExp(message.split("…").map(RegExp.escape).join(".*"));
}

describe("said to", () => {
  expect(ROWS.length).toBeGreaterThan(40);
  test.concurrent.each(ROWS)(
    "ublk %s",
    async (line, message) => {
      const words = [...line.matchAll(/'([^']*)'|(\S+)/g)].map(
        ([, quoted, word]) => quoted ?? word!,
      );
      const command = [process.execPath, join(ROOT, "src/main.ts"), ...words];
      const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
      const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
      expect(err).toMatch(pattern(message));
      expect(err.trim().split("\n")).toHaveLength(2);
      expect(out).toBe("");
      expect(await child.exited).toBe(line.startsWith("check") ? 1 : 2);
    },
    BUSY_MACHINE_MS,
  );
});

test("the example of an error as JSON is what ublk says", async () => {
  const example = /```json\n([^]*?)```/.exec(MANUAL)![1]!;
  const facts = JSON.parse(example).error;
  const error = new SysError({ ...facts, errno: ENODEV });
  const { text, status } = reportOf(error, "ublk list", true);
  expect(JSON.parse(text)).toEqual({ error: facts });
  expect(status).toBe(facts.exit_code);
});
