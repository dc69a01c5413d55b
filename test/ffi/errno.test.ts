/** ffi/errno.ts: names for numbers, and errors that cross threads as data. */

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import {
  EBUSY,
  EINVAL,
  EIO,
  ENOENT,
  ENOTSUPP,
  EOPNOTSUPP,
  errnoName,
  errnoText,
  errorFacts,
  SysError,
  trySys,
} from "../../ffi/errno.ts";
import { thrown } from "../temp.ts";

test.each([
  [1, "EPERM"],
  [16, "EBUSY"],
  [28, "ENOSPC"],
  [95, "EOPNOTSUPP"],
  [524, "ENOTSUPP"],
  [4000, "errno 4000"],
])("%i is called %s", (number, name) => {
  expect(errnoName(number)).toBe(name);
});

test("the numbers are Linux's own", () => {
  expect([EIO, EBUSY, EINVAL, EOPNOTSUPP, ENOTSUPP]).toEqual([5, 16, 22, 95, 524]);
});

test("a known number is explained, an unknown one keeps its number", () => {
  expect(errnoText(EBUSY)).toStartWith("EBUSY (");
  expect(errnoText(4000)).toBe("errno 4000");
});

describe("SysError", () => {
  test("says what failed, on what and why", () => {
    const error = new SysError({ op: "open", errno: EBUSY, subject: "/a" });
    expect(error.message).toMatch(/^open \/a: EBUSY \(.+\)$/);
  });

  test("says our own reason where there is one", () => {
    const error = new SysError({ op: "open", errno: EINVAL, subject: "/a", reason: "is empty" });
    expect(error.message).toBe("open /a: is empty");
  });

  test("keeps an older hint", () => {
    const error = new SysError({ op: "open", errno: EIO });
    expect(error.withHint("first").withHint("second").hint).toBe("first");
  });

  test("crosses a thread as data and comes back the same", () => {
    const facts = { op: "lock", errno: 11, subject: "/a", reason: "is in use", hint: "wait" };
    const error = new SysError(structuredClone(new SysError(facts).facts()));
    expect(error.facts()).toEqual(facts);
    expect(error.message).toBe("lock /a: is in use");
  });

  test("leaves out what it does not know", () => {
    expect(new SysError({ op: "mmap", errno: 12 }).facts()).toEqual({ op: "mmap", errno: 12 });
  });
});

describe("of what Node's own calls throw,", () => {
  const missing = (): unknown => readFileSync("/nowhere/a");

  test("the errno is kept, and the rest is said by who called", () => {
    const error = thrown(() => trySys("read", "/nowhere/a", missing, "make it")) as SysError;
    expect(error).toBeInstanceOf(SysError);
    expect(error.facts()).toEqual({
      op: "read",
      errno: ENOENT,
      subject: "/nowhere/a",
      hint: "make it",
    });
    expect(thrown(() => trySys("read", "a", missing))).not.toHaveProperty("hint", "make it");
  });

  test("an error of ours, or one that is no system's, is what it was", () => {
    for (const error of [new SysError({ op: "open", errno: EIO }), new TypeError("a fault")]) {
      const fail = (): never => {
        throw error;
      };
      expect(thrown(() => trySys("write", "/a", fail, "hint"))).toBe(error);
    }
    expect(trySys("write", "/a", () => 7)).toBe(7);
  });
});

test("whatever else is thrown becomes an internal error with its stack", () => {
  const facts = errorFacts(new TypeError("x is not a function"));
  expect(facts).toMatchObject({ op: "internal error", errno: EIO });
  expect(facts.reason).toContain("x is not a function");
  expect(facts.reason).toContain("errno.test.ts");
  expect(errorFacts("plain words").reason).toBe("plain words");
});
