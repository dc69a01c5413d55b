/** src/control/view.ts: driver and state file in one object, for a device that anybody made. */

import { expect, test } from "bun:test";
import * as device from "../../../src/control/device.ts";
import { encodeParams } from "../../../src/control/params.ts";
import { viewDevice } from "../../../src/control/view.ts";
import { diskOf } from "../../disks.ts";
import { QUIESCED, setState, SimControl } from "../../sim/control.ts";

/** An id that no state file of this machine has. */
const ID = 1_000_000;

async function served(readOnly = false) {
  const control = new SimControl();
  const wish = { nr_hw_queues: 2, queue_depth: 32, max_io_buf_bytes: 65536, flags: 0x40n };
  await device.addDevice(control, ID, wish);
  const disk = diskOf({ readOnly, blockBits: 12, physicalBits: 14, size: 1 << 30 });
  await device.setParams(control, ID, encodeParams(disk, 65536, "copy"));
  await device.startDevice(control, ID);
  return control;
}

async function view(readOnly = false) {
  const control = await served(readOnly);
  return viewDevice(control, ID);
}

test("a device of another server is shown as far as the driver knows it", async () => {
  expect(await view()).toMatchObject({
    dev_id: ID,
    block_device: `/dev/ublkb${ID}`,
    char_device: `/dev/ublkc${ID}`,
    state: "LIVE",
    ublksrv_pid: process.pid,
    nr_hw_queues: 2,
    queue_depth: 32,
    max_io_buf_bytes: 65536,
    mode: "copy",
    logical_block_size: 4096,
    physical_block_size: 16384,
    dev_sectors: 2 ** 21,
    read_only: false,
    char_major: 240,
    disk_major: 259,
    queues: [
      { q_id: 0, tid: -1, affinity: [0] },
      { q_id: 1, tid: -1, affinity: [1] },
    ],
    target: {},
  });
});

test("a read-only device is shown as one", async () => {
  expect((await view(true)).read_only).toBe(true);
});

test("what is shown is plain JSON", async () => {
  const shown = await view();
  expect(JSON.parse(JSON.stringify(shown))).toEqual(shown);
});

test("a server that has died is not shown, though the driver of 6.12 goes on naming it", async () => {
  const control = await served();
  setState(control.devices.get(ID)!, QUIESCED, process.pid);
  const info = await device.getDevInfo(control, ID);
  expect([device.stateName(info), info.ublksrv_pid]).toEqual(["QUIESCED", process.pid]);
  expect((await viewDevice(control, ID)).ublksrv_pid).toBe(-1);
});
