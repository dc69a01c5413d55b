/** src/control/supervise.ts: when a death is followed by another server, and when by the end. */

import { expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import * as device from "../../../src/control/device.ts";
import { Log } from "../../../src/control/log.ts";
import { encodeParams } from "../../../src/control/params.ts";
import { readState, writeState } from "../../../src/control/state.ts";
import { Deaths, giveUp } from "../../../src/control/supervise.ts";
import { diskOf } from "../../disks.ts";
import { DEAD, SimControl } from "../../sim/control.ts";
import { tempFolder } from "../../temp.ts";

const path = tempFolder();

test("the first death costs no time, the next ones more and more, the fifth is the last", () => {
  const deaths = new Deaths();
  const pauses = [0, 10, 20, 30, 40].map((second) => deaths.note(second * 1000));
  expect(pauses).toEqual([0, 100, 500, 1000, undefined]);
});

test("deaths that lie a minute back are forgotten", () => {
  const deaths = new Deaths();
  for (let second = 0; second < 600; second += 30) {
    expect(deaths.note(second * 1000)).toBe(second === 0 ? 0 : 100);
  }
});

const STATE = {
  dev_id: 0,
  target: { name: "null", config: {} },
  serving: { zeroCopyMin: 0, pollUs: 0, threads: 0, limits: {}, logLevel: "info" as const },
  report: { name: "null" },
  tids: [[100]],
  affinity: [],
};

async function givenUp(dir: string) {
  const control = new SimControl();
  const wish = { nr_hw_queues: 1, queue_depth: 32, max_io_buf_bytes: 65536, flags: 0x48n };
  await device.addDevice(control, 0, wish);
  await device.setParams(control, 0, encodeParams(diskOf(), 65536, "copy"));
  await device.startDevice(control, 0);
  const said: string[] = [];
  await giveUp(control, 0, "it fell", new Log("info", (_, line) => void said.push(line)), dir);
  return { state: control.devices.get(0)!.state, said: said.join("\n") };
}

test("a device that is given up is stopped, and its list says why", async () => {
  const dir = path("state");
  writeState(STATE, dir);
  expect((await givenUp(dir)).state).toBe(DEAD);
  expect(readState(0, dir)!.report["given_up"]).toContain("it fell");
});

test("it is stopped though its state cannot be written: its IO must not wait for ever", async () => {
  const dir = path("full");
  writeState(STATE, dir);
  mkdirSync(`${dir}/.0.${process.pid}/in-the-way`, { recursive: true });
  const { state, said } = await givenUp(dir);
  expect(state).toBe(DEAD);
  expect(said).toContain("`ublk list` does not say why");
});
