/** src/cli/suggest.ts: near words are suggested, far ones are not. */

import { expect, test } from "bun:test";
import { didYouMean, lettersWrong } from "../../../src/cli/suggest.ts";

const OPTIONS = ["--queues", "--queue-affinity", "--depth", "--file", "-n"];

test.each([
  ["--qeues", "--queues"],
  ["--queue", "--queues"],
  ["--Depth", "--depth"],
  ["--fille", "--file"],
  ["--queue-afinity", "--queue-affinity"],
])("%s: %s", (wrong, right) => {
  expect(didYouMean(wrong, OPTIONS)).toBe(`: did you mean ${right}?`);
});

test.each(["--bogus", "--f", "-x", "", "--queues-of-it"])("'%s' is like nothing", (word) => {
  expect(didYouMean(word, OPTIONS)).toBe("");
});

test.each([
  ["", "", 0],
  ["list", "list", 0],
  ["lsit", "list", 1],
  ["lst", "list", 1],
  ["lisst", "list", 1],
  ["lost", "list", 1],
  ["", "del", 3],
  ["add", "del", 3],
])("from '%s' to '%s' it is %d", (one, other, wrong) => {
  expect(lettersWrong(one, other)).toBe(wrong);
  expect(lettersWrong(other, one)).toBe(wrong);
});
