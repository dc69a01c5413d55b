/** src/control/served.ts: who serves a device, and who only has the number of who did. */

import { expect, test } from "bun:test";
import { isServed } from "../../../src/control/served.ts";
import type { DevInfo } from "../../../ffi/ublk_cmd.ts";
import { DEAD, LIVE, QUIESCED } from "../../sim/control.ts";

const infoOf = (state: number, pid: number) => ({ state, ublksrv_pid: pid }) as DevInfo;

test("a device is served while it is LIVE and its server lives", () => {
  expect(isServed(infoOf(LIVE, process.pid))).toBe(true);
  expect(isServed(infoOf(LIVE, 2 ** 22))).toBe(false);
  for (const state of [DEAD, QUIESCED]) expect(isServed(infoOf(state, process.pid))).toBe(false);
});
