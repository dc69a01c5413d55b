/** src/control/quiesce.ts: the server of a device is sent home, once and for all. */

import { expect, test } from "bun:test";
import { constants } from "node:os";
import type { SysError } from "../../../ffi/errno.ts";
import * as device from "../../../src/control/device.ts";
import { flagBit } from "../../../src/control/features.ts";
import { encodeParams } from "../../../src/control/params.ts";
import { refuseUpgrade, sendHome } from "../../../src/control/quiesce.ts";
import { diskOf } from "../../disks.ts";
import { SimControl } from "../../sim/control.ts";
import { thrown } from "../../temp.ts";

const { EBUSY, EINTR } = constants.errno;
/** No node of it is here, whatever this machine serves. */
const ID = 1_000_001;
const QUIESCE = 0x16;
const WAIT = flagBit("UBLK_F_USER_RECOVERY");
const REISSUE = WAIT | flagBit("UBLK_F_USER_RECOVERY_REISSUE");
const CAN = flagBit("UBLK_F_QUIESCE");
const BATCH = flagBit("UBLK_F_BATCH_IO");

async function served(flags: bigint) {
  const server = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore"] });
  const control = new SimControl();
  const wish = { nr_hw_queues: 1, queue_depth: 32, max_io_buf_bytes: 65536 };
  await device.addDevice(control, ID, { ...wish, flags: flags | 0x40n });
  await device.setParams(control, ID, encodeParams(diskOf(), 65536, "copy"));
  await device.startDevice(control, ID);
  control.devices.get(ID)!.info.setInt32(16, server.pid, true);
  const said: string[] = [];
  const home = (patience?: number): Promise<void> =>
    sendHome(control, ID, (line) => void said.push(line), patience);
  const asked = (): number => control.log.filter((nr) => nr === QUIESCE).length;
  return { server, control, said, home, asked };
}

test("a server that hears of it leaves, and nobody kills it", async () => {
  const { server, control, said, home, asked } = await served(WAIT | CAN);
  control.quiesced = () => {
    server.kill("SIGTERM");
    return 0;
  };
  await home();
  await server.exited;
  expect([server.signalCode, said]).toEqual(["SIGTERM", []]);
  expect(asked()).toBeGreaterThanOrEqual(1); // more, on a machine that is slow to end it
});

test.each([
  ["EBUSY", -EBUSY],
  ["EINTR", -EINTR],
  ["success, though all its tags were busy", 0],
])("after %s it is asked again until it leaves", async (_, first) => {
  const { server, control, home, asked } = await served(WAIT | CAN);
  let times = 0;
  control.quiesced = () => {
    if (++times < 3) return first;
    server.kill("SIGTERM");
    return 0;
  };
  await home();
  await server.exited;
  expect(server.signalCode).toBe("SIGTERM");
  expect(asked()).toBeGreaterThanOrEqual(3);
});

test("one that never leaves is killed, and that is said: the device must not stay so", async () => {
  const { server, control, said, home } = await served(WAIT | CAN);
  control.quiesced = () => -EBUSY;
  await home(300);
  await server.exited;
  expect(server.signalCode).toBe("SIGKILL");
  expect(said).toEqual([`process ${server.pid} does not leave: it is killed`]);
});

test.each([
  ["on a kernel without QUIESCE_DEV", REISSUE],
  ["in batch mode, where QUIESCE_DEV fails IO", REISSUE | CAN | BATCH],
])("%s it is killed when IO is issued again", async (_, flags) => {
  const { server, home, asked, said } = await served(flags);
  await home();
  await server.exited;
  expect([server.signalCode, asked(), said]).toEqual(["SIGKILL", 0, []]);
});

test.each([
  ["UBLK_F_QUIESCE", WAIT],
  ["batch devices", WAIT | CAN | BATCH],
])("otherwise it is refused, and nothing happens: %s", async (why, flags) => {
  const { server, control, home } = await served(flags);
  const info = await device.getDevInfo(control, ID);
  const refusal = thrown(() => refuseUpgrade(info)) as SysError;
  expect(refusal.message).toContain(why);
  expect(refusal.hint).toContain("-i");
  expect(await home().catch((error: unknown) => error)).toEqual(refusal);
  expect(server.signalCode).toBeNull();
  server.kill("SIGKILL");
});

test("where nobody serves there is nobody to send home", async () => {
  const { server, home, asked } = await served(WAIT | CAN);
  server.kill("SIGKILL");
  await server.exited;
  await home();
  expect(asked()).toBe(0);
});
