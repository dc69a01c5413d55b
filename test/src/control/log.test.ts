/** src/control/log.ts: lines as the system's log wants them, and a log that is never in the way. */

import { describe, expect, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { Log, type LogLevel, toSyslog, Trickle } from "../../../src/control/log.ts";
import { Receiver } from "../../receiver.ts";
import { tempFolder } from "../../temp.ts";

const path = tempFolder();

/** Ours that are open. Other descriptors come and go with the runtime. */
function sockets(): string[] {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ""; // that of the folder itself, closed by now
    }
  });
  return links.filter((link) => link.startsWith("socket:"));
}

function lines(level: LogLevel, say: (log: Log) => void): string[] {
  const said: string[] = [];
  const log = new Log(level, (how, line) => void said.push(`${how}|${line}`));
  log.name = "ublk3";
  say(log);
  return said;
}

describe("a line", () => {
  test("begins with the device", () => {
    expect(lines("info", (log) => log.say("info", "live"))).toEqual(["info|ublk3: live"]);
  });

  test("is one line, whatever a file is called", () => {
    const said = lines("info", (log) => log.say("error", "a\nublk9: live\r\n\x1b[2J\n"));
    expect(said).toEqual(["error|ublk3: a ublk9: live [2J"]);
  });

  test.each([
    ["error", ["error"]],
    ["warn", ["error", "warn"]],
    ["info", ["error", "warn", "info"]],
    ["debug", ["error", "warn", "info", "debug"]],
  ] as const)("of a level that is urgent enough is said: %s", (level, expected) => {
    const all: LogLevel[] = ["error", "warn", "info", "debug"];
    const said = lines(level, (log) => all.forEach((one) => log.say(one, "x")));
    expect(said).toEqual(expected.map((one) => `${one}|ublk3: x`));
  });

  test("about what cannot be had is said once", () => {
    const said = lines("info", (log) => {
      for (let tries = 0; tries < 3; tries++) {
        log.bestEffort("goes without", () => {
          throw new Error("EPERM");
        });
      }
      log.bestEffort("not said", () => {});
    });
    expect(said).toEqual(["warn|ublk3: goes without: EPERM"]);
  });
});

describe("to the system's log", () => {
  test("goes priority, time, program and process, then the line", () => {
    const socket = new Receiver(path("log"));
    const write = toSyslog(path("log"));
    write("error", "ublk0: serves no more");
    write("info", "ublk0: stopped");
    const [first, second] = socket.take();
    expect(first).toMatch(
      /^<27>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d ublk\[\d+\]: ublk0: serves no more$/,
    );
    expect(second).toStartWith("<30>");
    socket.close();
  });

  test("lines go on after it was restarted; those in between are lost", () => {
    const before = new Receiver(path("again"));
    const write = toSyslog(path("again"));
    write("info", "one");
    expect(before.take()).toHaveLength(1);
    before.close();
    write("info", "lost");
    const after = new Receiver(path("again"));
    write("info", "two");
    expect(after.take().map((line) => line.slice(-3))).toEqual(["two"]);
    after.close();
  });

  test("nothing happens where there is none, and no descriptor is left", () => {
    const open = sockets();
    const write = toSyslog(path("none"));
    for (let count = 0; count < 100; count++) write("error", "nobody hears");
    expect(sockets()).toEqual(open);
  });

  test("a reader that does not read makes nobody wait", () => {
    const socket = new Receiver(path("slow"));
    const write = toSyslog(path("slow"));
    for (let count = 0; count < 5000; count++) write("info", "x".repeat(500));
    const taken = socket.take().length;
    expect(taken).toBeGreaterThan(0);
    expect(taken).toBeLessThan(5000);
    socket.close();
  });
});

describe("what may fail with every IO", () => {
  test("is told ten times, then counted, then told again", () => {
    let now = 0;
    const said: string[] = [];
    const trickle = new Trickle(
      (line) => void said.push(line),
      () => now,
    );
    for (let count = 0; count < 1000; count++) trickle.say(`io ${count}`);
    expect(said).toHaveLength(10);
    now = 10_000;
    trickle.say("io 1000");
    expect(said.slice(10)).toEqual(["990 more lines like these were left out", "io 1000"]);
    trickle.flush();
    expect(said).toHaveLength(12);
  });
});

const SCRIPT = `
import { openLog } from "${join(import.meta.dir, "../../../src/control/log.ts")}";
openLog("info", true).say("warn", "x");
`;

describe("in the foreground", () => {
  const run = (env: Record<string, string>) =>
    Bun.spawnSync([process.execPath, "-e", SCRIPT], { env: { ...process.env, ...env } });

  test("lines go to standard error", () => {
    expect(run({}).stderr.toString()).toBe("ublk: x\n");
  });

  test("and with their urgency where that is the journal already", () => {
    const script = `export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2); exec "$@"`;
    const { stderr } = Bun.spawnSync(["sh", "-c", script, "sh", process.execPath, "-e", SCRIPT], {
      env: process.env,
    });
    expect(stderr.toString()).toBe("<4>ublk: x\n");
  });

  test("a closed standard error is no failure", () => {
    const closed = Bun.spawnSync([
      "sh",
      "-c",
      `exec "$@" 2>&-`,
      "sh",
      process.execPath,
      "-e",
      SCRIPT,
    ]);
    expect(closed.exitCode).toBe(0);
  });
});
