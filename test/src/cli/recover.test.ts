/** src/cli/recover.ts: which devices -a is about. */

import { expect, test } from "bun:test";
import { isCandidate } from "../../../src/cli/recover.ts";
import { addDevice } from "../../../src/control/device.ts";
import { DEAD, LIVE, QUIESCED, setState, SimControl } from "../../sim/control.ts";
import { EACCES, ENODEV, EPERM } from "../../sim/errno.ts";

const ETIMEDOUT = 110;
const COPY = 0x40n;
const WAIT = 0x48n;

async function deviceThat(state: number, pid: number, flags = WAIT): Promise<SimControl> {
  const control = new SimControl();
  const wish = { nr_hw_queues: 1, queue_depth: 32, max_io_buf_bytes: 65536, flags };
  await addDevice(control, 0, wish);
  setState(control.devices.get(0)!, state, pid);
  return control;
}

test.each([
  ["that waits for a server is to be recovered", QUIESCED, -1, WAIT, [true, false]],
  ["whose server has died is, too", LIVE, 2 ** 22, WAIT, [true, false]],
  ["that is served is to be upgraded", LIVE, process.pid, WAIT, [false, true]],
  ["that was stopped is left alone", DEAD, -1, WAIT, [false, false]],
  ["that ends with its server is left alone", LIVE, process.pid, COPY, [false, false]],
])("a device %s", async (_, state, pid, flags, answers) => {
  const control = await deviceThat(state, pid, flags);
  expect(await isCandidate(control, 0, "recover")).toBe(answers[0]!);
  expect(await isCandidate(control, 0, "upgrade")).toBe(answers[1]!);
});

test.each([
  ["has gone meanwhile is left alone", ENODEV, false],
  ["is another user's is left alone", EACCES, false],
  ["is root's is left alone", EPERM, false],
  ["cannot be looked at is not passed over", ETIMEDOUT, true],
])("a device that %s", async (_, errno, answer) => {
  const control = await deviceThat(LIVE, process.pid);
  control.send = async () => -errno;
  expect(await isCandidate(control, 0, "recover")).toBe(answer);
});
