/** src/control/process.ts: who goes on serving, and who does not. */

import { expect, test } from "bun:test";
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
