/**
 * The daemon's log: one line for each event that a person must know, the device first.
 *
 * It goes to the system's log, and in the foreground to stderr too. It never waits and never
 * fails: the log may well be kept on a disk that we serve.
 */

import { fstatSync, writeSync } from "node:fs";
import { Datagrams } from "../../ffi/datagram.ts";
import { SysError } from "../../ffi/errno.ts";
import { oneLine } from "./report.ts";

/** From the most to the least urgent. */
export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** As syslog(3) numbers them: LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG. */
const SEVERITY: Record<LogLevel, number> = { error: 3, warn: 4, info: 6, debug: 7 };
const LOG_DAEMON = 3 << 3;

export type WriteLine = (level: LogLevel, line: string) => void;

export class Log {
  /** Before each line: `ublk0` once the device has a number. */
  name = "ublk";
  readonly #least: number;
  readonly #write: WriteLine;
  readonly #said = new Set<string>();

  constructor(level: LogLevel, write: WriteLine) {
    this.#least = LOG_LEVELS.indexOf(level);
    this.#write = write;
  }

  say(level: LogLevel, text: string): void {
    if (LOG_LEVELS.indexOf(level) > this.#least) return;
    this.#write(level, `${this.name}: ${oneLine(text)}`);
  }

  /** What each thread or each try would say again is said once. */
  once(level: LogLevel, text: string): void {
    if (this.#said.has(text)) return;
    this.#said.add(text);
    this.say(level, text);
  }

  /** Does what the device can live without; says what follows when it cannot be done. */
  bestEffort(otherwise: string, action: () => void): void {
    try {
      action();
    } catch (error) {
      this.once("warn", `${otherwise}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

/** Where lines go. Open it before the daemon leaves its mounts. */
export function openLog(level: LogLevel, foreground: boolean): Log {
  if (!foreground) return new Log(level, toSyslog());
  // A service manager passes stderr on to the same log.
  if (stderrIsJournal()) {
    return new Log(level, (how, line) => toStderr(`<${SEVERITY[how]}>${line}\n`));
  }
  const system = toSyslog();
  return new Log(level, (how, line) => {
    toStderr(`${line}\n`);
    system(how, line);
  });
}

const STDERR = 2;
const SYSLOG = "/dev/log";

/** systemd names the socket that it has made our stderr: "DEVICE:INODE" (systemd.exec(5)). */
function stderrIsJournal(): boolean {
  const stream = process.env["JOURNAL_STREAM"];
  if (stream === undefined) return false;
  const { dev, ino } = fstatSync(STDERR);
  return stream === `${dev}:${ino}`;
}

function toStderr(text: string): void {
  try {
    writeSync(STDERR, text);
  } catch {
    // nobody reads it any more
  }
}

/** A line as syslog(3) sends it, over a socket that is kept and renewed when the log restarts. */
export function toSyslog(path = SYSLOG): WriteLine {
  let socket = connected(path);
  return (level, line) => {
    const text = `<${LOG_DAEMON | SEVERITY[level]}>${stamp(new Date())} ublk[${process.pid}]: ${line}`;
    for (let tries = 0; tries < 2; tries++) {
      socket ??= connected(path);
      try {
        return socket?.send(text);
      } catch {
        socket?.close();
        socket = undefined;
      }
    }
  };
}

function connected(path: string): Datagrams | undefined {
  try {
    return new Datagrams(path);
  } catch (error) {
    if (error instanceof SysError) return undefined; // a system without a log
    throw error;
  }
}

/** "Nov  3 12:15:53": local time, as RFC 3164 wants it. */
function stamp(now: Date): string {
  const text = now.toString(); // "Tue Nov 03 2026 12:15:53 GMT+0000 (…)"
  return `${text.slice(4, 7)} ${String(now.getDate()).padStart(2)} ${text.slice(16, 24)}`;
}

const LINES_MAX = 10;
const WINDOW_MS = 10_000;

/**
 * Lets through a few lines in a while. What fails with one IO may fail with every one, and a log
 * that tells each of them helps nobody.
 */
export class Trickle {
  readonly #say: (line: string) => void;
  readonly #now: () => number;
  #since = Number.NEGATIVE_INFINITY;
  #said = 0;
  #left = 0;

  constructor(say: (line: string) => void, now: () => number = Date.now) {
    this.#say = say;
    this.#now = now;
  }

  say(line: string): void {
    if (this.#now() - this.#since >= WINDOW_MS) {
      this.flush();
      this.#since = this.#now();
      this.#said = 0;
    }
    if (this.#said++ < LINES_MAX) this.#say(line);
    else this.#left++;
  }

  /** Says how much was left out. */
  flush(): void {
    if (this.#left > 0) this.#say(`${this.#left} more lines like these were left out`);
    this.#left = 0;
  }
}
