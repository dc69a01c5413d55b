/** src/control/report.ts: an error in two lines, or in one for programs. */

import { describe, expect, test } from "bun:test";
import { ENOENT, SysError } from "../../../ffi/errno.ts";
import { reportOf } from "../../../src/control/report.ts";
import { UsageError } from "../../../src/target/parse.ts";

const USAGE = new UsageError("-n 'x': give a device number from 0 to 1048575");
const OPEN = new SysError({ op: "open", errno: ENOENT, subject: "/a", hint: "look for it" });
const OURS = new SysError({ op: "lock", errno: 0, reason: "is in use" });

test.each([
  ["ublk add", 2],
  ["ublk", 2],
  ["ublk check", 1],
])("words without sense end '%s' with %i", (command, status) => {
  expect(reportOf(USAGE, command, false).status).toBe(status);
  expect(reportOf(OPEN, command, true).status).toBe(1);
});

describe("people read", () => {
  test("what failed, on what and why, and what to do", () => {
    const { text } = reportOf(OPEN, "ublk add", false);
    expect(text).toBe(
      "ublk add: open /a: ENOENT (no such file or directory)\n       look for it\n",
    );
    expect(reportOf(OURS, "ublk add", false).text).toBe("ublk add: lock: is in use\n");
  });

  test("one line, whatever a file is called", () => {
    const error = new SysError({
      ...OPEN.facts(),
      subject: "/new\nline\x1b[2J\x9b",
      hint: "see\r\nx",
    });
    const text =
      "ublk add: open /new line [2J : ENOENT (no such file or directory)\n       see x\n";
    expect(reportOf(error, "ublk add", false).text).toBe(text);
    const usage = new UsageError("'a\nb'");
    expect(reportOf(usage, "ublk", false).text).toBe("ublk: 'a b'\n       try: ublk --help\n");
  });

  test("where help is, when the words made no sense", () => {
    expect(reportOf(USAGE, "ublk list", false).text).toEndWith("       try: ublk list --help\n");
  });

  test("the stack of what should not have happened", () => {
    const { text, status } = reportOf(new TypeError("x is undefined"), "ublk", false);
    expect(text).toMatch(/internal error: TypeError: x is undefined\n +at /);
    expect(status).toBe(1);
  });
});

describe("programs read", () => {
  const read = (error: unknown, command: string): unknown => {
    const { text } = reportOf(error, command, true);
    expect(text.trimEnd()).not.toContain("\n");
    return JSON.parse(text);
  };

  test("the facts of an error of the system", () => {
    expect(read(OPEN, "ublk add")).toEqual({
      error: {
        verb: "add",
        kind: "system",
        message: "open /a: ENOENT (no such file or directory)",
        op: "open",
        errno: "ENOENT",
        subject: "/a",
        hint: "look for it",
        exit_code: 1,
      },
    });
  });

  test("no errno where the refusal is ours alone", () => {
    const error = { verb: "add", kind: "system", message: "lock: is in use", op: "lock" };
    expect(read(OURS, "ublk add")).toEqual({
      error: { ...error, reason: "is in use", exit_code: 1 },
    });
  });

  test("that the words made no sense, or that we are broken", () => {
    expect(read(USAGE, "ublk")).toEqual({
      error: { kind: "usage", message: USAGE.message, exit_code: 2 },
    });
    expect(read(new Error("no"), "ublk")).toMatchObject({ error: { kind: "internal" } });
  });
});
