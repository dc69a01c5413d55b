/** Asks for a passphrase at the terminal, without showing it. */

import { readSync } from "node:fs";
import { note } from "./print.ts";

const STDIN_FD = 0;
const ENTER = new Set(["\r", "\n"]);
const ERASE = new Set(["\x7f", "\b"]);
const INTERRUPT = "\x03";
const END = "\x04";
const ERASE_ALL = "\x15";
/** What a shell shows for a program that SIGINT ended. */
const EXIT_SIGINT = 130;

/** Undefined where there is no terminal: what comes out of a pipe was not meant as an answer. */
export function askSecret(question: string): string | undefined {
  const { stdin, stderr } = process;
  if (!stdin.isTTY || !stderr.isTTY) return undefined;
  return readHidden(question) ?? endInterrupted();
}

function readHidden(question: string): string | undefined {
  process.stdin.setRawMode(true);
  note(`${question}: `);
  try {
    return readLine(() => {
      const byte = new Uint8Array(1);
      return readSync(STDIN_FD, byte) === 0 ? END : String.fromCharCode(byte[0]!);
    });
  } finally {
    process.stdin.setRawMode(false);
    note("\n");
  }
}

/** As the terminal would have ended us: whoever started us sees it, and a script ends too. */
function endInterrupted(): never {
  process.kill(process.pid, "SIGINT");
  process.exit(EXIT_SIGINT); // where SIGINT is ignored
}

/**
 * What a terminal would have done with a line, which in raw mode nobody does; undefined when it was
 * interrupted.
 */
export function readLine(nextByte: () => string): string | undefined {
  let typed: string[] = [];
  for (;;) {
    const byte = nextByte();
    if (byte === INTERRUPT) return undefined;
    if (ENTER.has(byte) || byte === END) break;
    if (byte === ERASE_ALL) typed = [];
    else if (!ERASE.has(byte)) typed.push(byte);
    // A character may be several bytes, of which only the first is not 10xxxxxx.
    else while (/[\x80-\xbf]/.test(typed.pop() ?? ""));
  }
  return Buffer.from(typed.join(""), "latin1").toString("utf8");
}
