// The judge finds a block that is wrong, and an error that comes where none may.

import { expect, test } from "bun:test";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { tempFolder } from "../temp.ts";
import { fill, textOf, verify } from "./judge.ts";

const temp = tempFolder();
const BLOCK = 4096;

/** A disk and its log; block 0 has generation 1, block 16 was never written. */
function filled(): { disk: string; log: string } {
  const files = { disk: temp("disk"), log: temp("log") };
  fill(files.disk, files.log);
  return files;
}

function spoil(disk: string, offset: number, bytes: string): void {
  const content = readFileSync(disk);
  content.write(bytes, offset);
  writeFileSync(disk, content);
}

test("what was written as it was acknowledged is right", () => {
  const { disk, log } = filled();
  expect(verify(disk, log)).toMatchObject({ wrong: [], errors: {}, since: 2048 });
  // Begun and never ended: it may be there, or not.
  appendFileSync(log, "i 0 2\n");
  expect(verify(disk, log).wrong).toEqual([]);
  spoil(disk, 0, textOf(0, 2).repeat(BLOCK / 32));
  expect(verify(disk, log).wrong).toEqual([]);
});

test.each([
  ["a lost write", "i 0 2\na 0 2 5\n", 0, "", /^block 0 holds generation 1, of 2 with 2 ack/],
  ["an old write", "", 0, textOf(0, 0).repeat(BLOCK / 32), /^block 0 holds what nobody wrote/],
  ["a torn block", "i 0 2\n", 2048, textOf(0, 2).repeat(64), /^block 0 holds what nobody wrote/],
  ["another block's", "", 0, textOf(1, 1).repeat(BLOCK / 32), /^block 0 holds what nobody wrote/],
  ["one bit", "", 16 * BLOCK + 7, "\u0001", /^block 16 holds what nobody wrote/],
  ["what was not begun", "", 0, textOf(0, 2).repeat(BLOCK / 32), /^block 0 holds generation 2/],
])("%s is found", (_, lines, offset, bytes, complaint) => {
  const { disk, log } = filled();
  appendFileSync(log, lines);
  spoil(disk, offset, bytes);
  expect(verify(disk, log).wrong).toEqual([expect.stringMatching(complaint)]);
});

test("an error counts as wrong unless it was permitted while the write was under way", () => {
  const { log } = filled();
  const good = "may\ni 1 3\ne 1 3 20 EIO\ni 2 3\nmust\ne 2 3 21 EIO\n";
  appendFileSync(log, `i 0 2\n${good.replace("i 1", "e 0 2 10 EIO\ni 1")}`);
  expect(verify("-", log)).toMatchObject({ wrong: [], errors: { EIO: 3 }, stillMs: 10 });
  appendFileSync(log, "i 3 2\ne 3 2 30 EREMOTEIO\ni 4 2\na 4 2 31\n");
  expect(verify("-", log)).toMatchObject({
    wrong: ["block 3, generation 2: EREMOTEIO at 30 ms"],
    errors: { EIO: 3, EREMOTEIO: 1 },
    since: 1,
  });
});
