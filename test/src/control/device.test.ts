/** src/control/device.ts over a simulated driver: the sequences of a device's life. */

import { describe, expect, test } from "bun:test";
import { constants } from "node:os";
import { SysError } from "../../../ffi/errno.ts";
import { UBLK_PARAM_TYPE_DEVT } from "../../../ffi/ublk_cmd.ts";
import * as device from "../../../src/control/device.ts";
import { encodeParams } from "../../../src/control/params.ts";
import { diskOf } from "../../disks.ts";
import { LIVE, SimControl } from "../../sim/control.ts";

const { EEXIST, EINVAL, ENODEV, ENOENT, EOPNOTSUPP, EPERM, EACCES } = constants.errno;
const INFO = 0x02;
const INFO2 = 0x12;
const WISH = { nr_hw_queues: 1, queue_depth: 64, max_io_buf_bytes: 512 * 1024, flags: 1n << 6n };

async function errnoOf(action: Promise<unknown>): Promise<number> {
  const error: unknown = await action.catch((failure: unknown) => failure);
  if (error instanceof SysError) return error.errno;
  throw new Error(`no refusal but ${String(error)}`);
}

async function added(control: SimControl, id = -1): Promise<number> {
  return (await device.addDevice(control, id, WISH)).dev_id;
}

async function live(control: SimControl): Promise<number> {
  const id = await added(control);
  await device.setParams(control, id, encodeParams(diskOf(), WISH.max_io_buf_bytes, "copy"));
  await device.startDevice(control, id);
  return id;
}

test("features are what the driver offers, all 64 bits of them", async () => {
  const control = new SimControl();
  control.offered = 0x8000_0000_0000_01fen;
  expect(await device.getFeatures(control)).toBe(0x8000_0000_0000_01fen);
});

describe("a device that is added", () => {
  test("has what the driver made of the wish", async () => {
    const control = new SimControl();
    control.cpus = 4;
    const wish = { ...WISH, nr_hw_queues: 16, max_io_buf_bytes: 512 * 1024 + 1 };
    const info = await device.addDevice(control, -1, wish);
    expect(info).toMatchObject({ dev_id: 0, nr_hw_queues: 4, queue_depth: 64 });
    expect(info.max_io_buf_bytes).toBe(512 * 1024);
    expect(info.flags & (1n << 1n)).toBe(1n << 1n);
  });

  test("has the id that was asked for, or the first free one", async () => {
    const control = new SimControl();
    expect(await added(control, 1)).toBe(1);
    expect(await added(control)).toBe(0);
    expect(await added(control)).toBe(2);
    expect(await errnoOf(added(control, 1))).toBe(EEXIST);
  });
});

describe("a device's life", () => {
  test("goes from added by live and dead to deleted", async () => {
    const control = new SimControl();
    const id = await live(control);
    expect(control.devices.get(id)?.state).toBe(LIVE);
    const info = await device.getDevInfo(control, id);
    expect([device.stateName(info), info.ublksrv_pid]).toEqual(["LIVE", process.pid]);
    await device.stopDevice(control, id);
    expect(device.stateName(await device.getDevInfo(control, id))).toBe("DEAD");
    await device.deleteDevice(control, id);
    expect(await errnoOf(device.getDevInfo(control, id))).toBe(ENODEV);
  });

  test("does not begin without parameters, or with such as break the driver's rules", async () => {
    const control = new SimControl();
    const id = await added(control);
    expect(await errnoOf(device.startDevice(control, id))).toBe(EINVAL);
    const bad = encodeParams(diskOf({ blockBits: 13, physicalBits: 13 }), 512 * 1024, "copy");
    expect(await errnoOf(device.setParams(control, id, bad))).toBe(EINVAL);
  });

  test("does not change its parameters once it has begun", async () => {
    const control = new SimControl();
    const id = await live(control);
    const params = encodeParams(diskOf(), 512 * 1024, "copy");
    expect(await errnoOf(device.setParams(control, id, params))).toBe(EACCES);
    expect(await errnoOf(device.startDevice(control, id))).toBe(EEXIST);
  });

  test("has numbers for its nodes while it is live", async () => {
    const control = new SimControl();
    const id = await live(control);
    const { basic, devt, types } = await device.getParams(control, id);
    expect(types! & UBLK_PARAM_TYPE_DEVT).toBe(UBLK_PARAM_TYPE_DEVT);
    expect(basic.dev_sectors).toBe(2048n);
    expect(devt).toEqual({ char_major: 240, char_minor: id, disk_major: 259, disk_minor: id });
  });
});

describe("information on a device", () => {
  test("is asked for by the newer command, with the path of the char device", async () => {
    const control = new SimControl();
    const id = await added(control, 7);
    let seen = "";
    control.pathCheck = (path) => {
      seen = path;
      return 0;
    };
    expect((await device.getDevInfo(control, id)).dev_id).toBe(7);
    expect(seen).toBe("/dev/ublkc7");
    expect(control.log).not.toContain(INFO);
  });

  test("is asked for the older way where the newer is not known", async () => {
    const control = new SimControl();
    control.knows = (nr) => nr !== INFO2;
    const id = await added(control);
    expect((await device.getDevInfo(control, id)).queue_depth).toBe(64);
    expect(control.log.slice(-2)).toEqual([INFO2, INFO]);
  });

  test.each([EINVAL, ENOENT, EOPNOTSUPP, 524])(
    "is asked for the older way where the path is answered with errno %i",
    async (errno) => {
      const control = new SimControl();
      control.pathCheck = () => -errno;
      const id = await added(control);
      expect((await device.getDevInfo(control, id)).dev_id).toBe(id);
    },
  );

  test("that is refused is not asked for again", async () => {
    const control = new SimControl();
    control.pathCheck = () => -EPERM;
    const id = await added(control);
    expect(await errnoOf(device.getDevInfo(control, id))).toBe(EPERM);
    expect(control.log.at(-1)).toBe(INFO2);
  });
});

describe("an ordinary user's device", () => {
  const USERS = { ...WISH, flags: WISH.flags | (1n << 5n) };

  async function userDevice(control: SimControl): Promise<number> {
    control.root = false;
    const id = (await device.addDevice(control, -1, USERS)).dev_id;
    const params = encodeParams(diskOf(), WISH.max_io_buf_bytes, "copy");
    await device.setParams(control, id, params);
    await device.startDevice(control, id);
    return id;
  }

  test("is named by its path in every command of its life", async () => {
    const control = new SimControl();
    const seen = new Set<string>();
    control.pathCheck = (path) => {
      seen.add(path);
      return 0;
    };
    const id = await userDevice(control);
    const { basic, devt } = await device.getParams(control, id);
    expect([basic.dev_sectors, devt.char_minor]).toEqual([2048n, id]);
    expect(device.cpusOf(await device.getQueueAffinity(control, id, 0))).toEqual([0, 1]);
    expect(device.stateName(await device.getDevInfo(control, id))).toBe("LIVE");
    await device.stopDevice(control, id);
    await device.deleteDevice(control, id);
    expect([...seen]).toEqual([`/dev/ublkc${id}`]);
    expect(control.log.filter((nr) => nr === INFO2)).toHaveLength(1); // ADD_DEV had told the rest
  });

  test("is recognised by those who did not add it, root among them", async () => {
    for (const root of [false, true]) {
      const control = new SimControl();
      const id = await userDevice(control);
      control.root = root;
      const other = { send: control.send.bind(control), close: () => {} };
      await device.stopDevice(other, id);
      await device.deleteDevice(other, id);
      expect(control.devices.size).toBe(0);
    }
  });

  test("is refused to those who may not open its node, and no longer known once it is gone", async () => {
    const control = new SimControl();
    const id = await userDevice(control);
    control.pathCheck = () => -EACCES;
    const other = { send: control.send.bind(control), close: () => {} };
    expect(await errnoOf(device.stopDevice(control, id))).toBe(EACCES);
    expect(await errnoOf(device.stopDevice(other, id))).toBe(EACCES);
    control.pathCheck = () => 0;
    await device.deleteDevice(control, id);
    control.root = true;
    expect(await live(control)).toBe(id);
    await device.stopDevice(control, id);
  });

  test("cannot be had by an ordinary user without the flag, or with what the driver forbids", async () => {
    const control = new SimControl();
    control.root = false;
    expect(await errnoOf(device.addDevice(control, -1, WISH))).toBe(EPERM);
    const zeroCopy = { ...USERS, flags: USERS.flags | 1n };
    expect(await errnoOf(device.addDevice(control, -1, zeroCopy))).toBe(EINVAL);
  });

  test("is root's own where root asks for it", async () => {
    const control = new SimControl();
    const { flags, dev_id } = await device.addDevice(control, -1, USERS);
    expect(flags & (1n << 5n)).toBe(0n);
    await device.stopDevice(control, dev_id);
  });
});

describe("the CPUs of a queue", () => {
  test("are a mask, and the mask is a list", async () => {
    const control = new SimControl();
    control.cpus = 20;
    const { dev_id } = await device.addDevice(control, -1, { ...WISH, nr_hw_queues: 3 });
    const lists = [];
    for (const q of [0, 1, 2]) {
      lists.push(device.cpusOf(await device.getQueueAffinity(control, dev_id, q)));
    }
    expect(lists[1]).toEqual([1, 4, 7, 10, 13, 16, 19]);
    expect(lists.flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(await errnoOf(device.getQueueAffinity(control, dev_id, 3))).toBe(EINVAL);
  });

  test.each([
    [[], []],
    [[0b101], [0, 2]],
    [
      [0, 0x80, 1],
      [15, 16],
    ],
  ])("%p are %p", (mask, cpus) => {
    expect(device.cpusOf(new Uint8Array(mask))).toEqual(cpus);
  });
});

test.each([
  [0, "DEAD"],
  [1, "LIVE"],
  [2, "QUIESCED"],
  [3, "FAIL_IO"],
  [9, "STATE_9"],
])("state %i is %s", async (state, name) => {
  const control = new SimControl();
  const info = await device.addDevice(control, -1, WISH);
  expect(device.stateName({ ...info, state })).toBe(name);
});
