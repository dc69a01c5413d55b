/** src/control/process.ts: who goes on serving, and who does not. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as libc from "../../../ffi/libc.ts";
import {
  hasThread,
  isIgnored,
  isServing,
  openProcess,
  processIdentity,
} from "../../../src/control/process.ts";

const child = () => Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore"] });

test("a process that runs serves; one that was killed does not, from the signal on", async () => {
  const one = child();
  expect(isServing(one.pid)).toBe(true);
  const fd = openProcess(one.pid);
  expect(libc.pollIn(fd, 1)).toBe(false);
  one.kill("SIGKILL");
  expect(isServing(one.pid)).toBe(false);
  expect(libc.pollIn(fd, 5000)).toBe(true);
  libc.close(fd);
  await one.exited;
  expect(isServing(one.pid)).toBe(false);
});

test("one that is stopped serves, as far as the driver knows", async () => {
  const one = child();
  one.kill("SIGSTOP");
  await Bun.sleep(50);
  expect(isServing(one.pid)).toBe(true);
  one.kill("SIGKILL");
  expect(isServing(one.pid)).toBe(false);
  await one.exited;
});

test.each([-1, 0, 2 ** 22 + 1])("nobody is process %i", (pid) => {
  expect(isServing(pid)).toBe(false);
  expect(openProcess(pid)).toBe(-1);
  expect(processIdentity(pid)).toBeUndefined();
});

test("a thread belongs to one process", async () => {
  const one = child();
  expect(hasThread(one.pid, one.pid)).toBe(true);
  expect(hasThread(process.pid, one.pid)).toBe(false);
  one.kill("SIGKILL");
  await one.exited;
  expect(hasThread(one.pid, one.pid)).toBe(false);
});

test("a signal is ignored if who started us had it so, and not if we hear it", () => {
  expect(isIgnored("SIGPIPE")).toBe(true); // by the runtime
  expect(isIgnored("SIGUSR2")).toBe(false);
  const hear = (): void => {};
  process.on("SIGUSR2", hear);
  expect(isIgnored("SIGUSR2")).toBe(false);
  process.off("SIGUSR2", hear);
});

/** Limits of CPU time and file size, [soft, hard], of a program begun under a shell's `ulimit`. */
function limitsOf(ulimit: string): { before: string[][]; after: string[][] } {
  const module = JSON.stringify(join(import.meta.dir, "../../../src/control/process.ts"));
  const script = `
    import { readFileSync } from "node:fs";
    import { liftLimits } from ${module};
    const limits = () => {
      const text = readFileSync("/proc/self/limits", "utf8");
      const lines = text.match(/^Max (cpu time|file size).*/gm);
      return lines.map((line) => line.split(/ {2,}/).slice(1, 3));
    };
    const before = limits();
    liftLimits();
    console.log(JSON.stringify({ before, after: limits() }));`;
  const start = `${ulimit} -t 1000 && ${ulimit} -f 1000 && exec "$0" -e "$1"`;
  const child = Bun.spawnSync(["sh", "-c", start, process.execPath, script]);
  return JSON.parse(child.stdout.toString());
}

test("limits of CPU time and file size are lifted to where one may", () => {
  const { before, after } = limitsOf("ulimit -S");
  expect(before).toHaveLength(2);
  for (const [soft] of before) expect(soft).toMatch(/^\d+$/);
  for (const [soft, hard] of after) expect(soft).toBe(hard!);
});

const CAP_SYS_RESOURCE = 24n;
const capabilities = /^CapEff:\s*(\w+)/m.exec(readFileSync("/proc/self/status", "utf8"))![1]!;
const isMighty = ((BigInt(`0x${capabilities}`) >> CAP_SYS_RESOURCE) & 1n) === 1n;

test.skipIf(!isMighty)("and beyond the hard ones by whoever may (needs CAP_SYS_RESOURCE)", () => {
  const { before, after } = limitsOf("ulimit");
  for (const [, hard] of before) expect(hard).toMatch(/^\d+$/);
  expect(after).toEqual([
    ["unlimited", "unlimited"],
    ["unlimited", "unlimited"],
  ]);
});
