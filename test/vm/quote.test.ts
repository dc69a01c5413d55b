// Scripts are quoted so that each argument is exactly one word.

import { expect, test } from "bun:test";
import { quote, raw, script } from "./quote.ts";

test("a plain word stays as it is, and any other one is quoted", () => {
  expect(quote("/dev/ublkb0")).toBe("/dev/ublkb0");
  expect(quote("")).toBe("''");
  expect(quote("a b")).toBe("'a b'");
  expect(quote("it's")).toBe(`'it'\\''s'`);
  expect(quote("ü")).toBe("'ü'");
});

test("arguments become words, arrays several, raw text none", () => {
  const tag = (text: TemplateStringsArray, ...args: Parameters<typeof script>[1][]) =>
    script(text, ...args);
  expect(tag`echo ${"a b"} ${7} ${["x", "y z"]} ${raw("| wc")}`).toBe("echo 'a b' 7 x 'y z' | wc");
  expect(tag`printf '\n' ${raw("$HOME")}`).toBe(String.raw`printf '\n' $HOME`);
});
