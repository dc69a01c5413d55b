// A command's output is found in the bytes of a lane.

import { expect, test } from "bun:test";
import { Marked } from "./lane.ts";

/** What a command printed, its process and its status, when its bytes come in pieces of a size. */
function received(bytes: string, size: number) {
  const seen = { text: "", pid: 0, status: -1 };
  const marked = new Marked(
    "MARK",
    (chunk) => (seen.text += chunk.toString("latin1")),
    (pid) => (seen.pid = pid),
    (status) => (seen.status = status),
  );
  const all = Buffer.from(bytes, "latin1");
  for (let at = 0; at < all.length; at += size) marked.feed(all.subarray(at, at + size));
  return seen;
}

test("a command's bytes are found between its marks, in pieces of any size", () => {
  const printed = "two\nlines\0and\0MAR zeros\0";
  const stream = `left over from before\nMARK 42\n${printed}\0MARK 7\n`;
  for (const size of [1, 2, 3, 7, 1000]) {
    expect(received(stream, size)).toEqual({ text: printed, pid: 42, status: 7 });
  }
});

test("output is passed on before the command has ended", () => {
  expect(received("MARK 42\nprogress", 1000)).toEqual({ text: "progress", pid: 42, status: -1 });
});
