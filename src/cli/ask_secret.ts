/** Asks for a passphrase at the terminal, without showing it. */

import { readSync } from "node:fs";
import { UsageError } from "../target/parse.ts";

const STDIN_FD = 0;
const ENTER = new Set(["\r", "\n"]);
const ERASE = new Set(["\x7f", "\b"]);
const INTERRUPT = "\x03";
const END = "\x04";
const ERASE_ALL = "\x15";

/** Undefined where there is no terminal: what comes out of a pipe was not meant as an answer. */
export function askSecret(question: string): string | undefined {
  const { stdin, stderr } = process;
  if (!stdin.isTTY || !stderr.isTTY) return undefined;
  stdin.setRawMode(true);
  stderr.write(`${question}: `);
  try {
    return readLine(() => {
      const byte = new Uint8Array(1);
      return readSync(STDIN_FD, byte) === 0 ? END : String.fromCharCode(byte[0]!);
    });
  } finally {
    stdin.setRawMode(false);
    stderr.write("\n");
  }
}

/** What a terminal would have done with a line, which in raw mode nobody does. */
export function readLine(nextByte: () => string): string {
  let typed: string[] = [];
  for (;;) {
    const byte = nextByte();
    if (byte === INTERRUPT) throw new UsageError("interrupted");
    if (ENTER.has(byte) || byte === END) break;
    if (byte === ERASE_ALL) typed = [];
    else if (!ERASE.has(byte)) typed.push(byte);
    // A character may be several bytes, of which only the first is not 10xxxxxx.
    else while (/[\x80-\xbf]/.test(typed.pop() ?? ""));
  }
  return Buffer.from(typed.join(""), "latin1").toString("utf8");
}
