/** src/control/served.ts: who serves a device, and who only has the number of who did. */

import { expect, test } from "bun:test";
import * as libc from "../../../ffi/libc.ts";
import { isServed, openServer } from "../../../src/control/served.ts";
import type { DevInfo } from "../../../ffi/ublk_cmd.ts";
import { DEAD, LIVE, QUIESCED } from "../../sim/control.ts";

const infoOf = (state: number, pid: number) => ({ state, ublksrv_pid: pid }) as DevInfo;

test("a device is served while it is LIVE and its server lives", () => {
  expect(isServed(infoOf(LIVE, process.pid))).toBe(true);
  expect(isServed(infoOf(LIVE, 2 ** 22))).toBe(false);
  for (const state of [DEAD, QUIESCED]) expect(isServed(infoOf(state, process.pid))).toBe(false);
});

test("its server is the process that has the char device open, not whoever has the number", async () => {
  const child = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore"] });
  const info = infoOf(LIVE, child.pid);
  const server = openServer(info, "/dev/null"); // which "ignore" opens
  expect(libc.pollIn(server, 0)).toBe(false);
  expect(openServer(info, "/dev/zero")).toBe(-1);
  expect(openServer(infoOf(QUIESCED, child.pid), "/dev/null")).toBe(-1);
  child.kill();
  await child.exited;
  expect(libc.pollIn(server, 5000)).toBe(true);
  expect(openServer(info, "/dev/null")).toBe(-1);
  libc.close(server);
});

test.each([
  ["missing", "/nowhere/ublkc0"],
  ["a plain file", import.meta.path],
])("where the node is %s, the driver is believed", (_, node) => {
  const server = openServer(infoOf(LIVE, process.pid), node);
  expect(server).toBeGreaterThan(0);
  libc.close(server);
});
