/** src/control/kept.ts: the image of a device that waits for a server is not served twice. */

import { afterAll, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { SysError } from "../../../ffi/errno.ts";
import * as device from "../../../src/control/device.ts";
import { refuseKept } from "../../../src/control/kept.ts";
import { encodeParams } from "../../../src/control/params.ts";
import { filesOf } from "../../../src/control/same_files.ts";
import type { DeviceState } from "../../../src/control/state.ts";
import type { Disk } from "../../../src/target/target.ts";
import { diskOf } from "../../disks.ts";
import { DEAD, LIVE, QUIESCED, setState, SimControl } from "../../sim/control.ts";
import { fileOf, MEMORY, tempFolder } from "../../temp.ts";

/** Whose mounts have no device. */
const path = tempFolder(MEMORY);
const opened = ["overlay", "base", "other"].map((name) => openSync(fileOf(path(name), 512), "r"));
const [OVERLAY, BASE, OTHER] = opened as [number, number, number];
afterAll(() => opened.forEach((fd) => closeSync(fd)));

const ID = 3;
type Noted = Pick<DeviceState, "dev_id" | "report" | "files">;

async function waiting(state = QUIESCED): Promise<SimControl> {
  const control = new SimControl();
  const wish = { nr_hw_queues: 1, queue_depth: 32, max_io_buf_bytes: 65536, flags: 0x48n };
  await device.addDevice(control, ID, wish);
  await device.setParams(control, ID, encodeParams(diskOf(), 65536, "copy"));
  setState(control.devices.get(ID)!, state, -1);
  return control;
}

/** What is noted of the device that waits. */
const noted = (fds: number[] | undefined, readOnly = false): Noted => ({
  dev_id: ID,
  report: { backing_file: "/srv/a.img", read_only: readOnly },
  ...(fds === undefined ? {} : { files: filesOf(fds) }),
});

const diskIn = (files: number[], readOnly = false, name = "/srv/a.img"): Disk =>
  diskOf({ files, readOnly, report: { backing_file: name } });

async function refusal(control: SimControl, disk: Disk, state: Noted) {
  const error: unknown = await refuseKept(control, disk, [state]).catch((e: unknown) => e);
  if (error !== undefined && !(error instanceof SysError)) throw error;
  return error;
}

test("the reason names the device, and both ways out", async () => {
  const error = await refusal(await waiting(), diskIn([OVERLAY]), noted([OVERLAY]));
  expect(error?.message).toBe("open /srv/a.img: device 3 is kept in it and waits for a server");
  expect(error?.hint).toBe("ublk recover -n 3 serves it, ublk del -n 3 gives it up");
});

test.each([
  ["the image, written by both", diskIn([OVERLAY]), noted([OVERLAY]), true],
  ["the image, which the one that waits writes", diskIn([OVERLAY], true), noted([OVERLAY]), true],
  ["the image, which the new one writes", diskIn([OVERLAY]), noted([OVERLAY], true), true],
  ["the image, read by both", diskIn([OVERLAY], true), noted([OVERLAY], true), false],
  ["the base, written by the new one", diskIn([BASE]), noted([OVERLAY, BASE]), true],
  ["the base, read by the new one", diskIn([BASE], true), noted([OVERLAY, BASE]), false],
  ["an overlay over the image", diskIn([OTHER, OVERLAY]), noted([OVERLAY, BASE]), true],
  ["an overlay over the same base", diskIn([OTHER, BASE]), noted([OVERLAY, BASE]), false],
  ["another image", diskIn([OTHER]), noted([OVERLAY, BASE]), false],
  ["no file", diskIn([]), noted([OVERLAY]), false],
  ["an image beside a null device", diskIn([OVERLAY]), noted([]), false],
  ["no file beside a null device", diskIn([]), noted([]), false],
  ["the image, of an older version's device", diskIn([OVERLAY]), noted(undefined), false],
])("%s", async (_, disk, state, clash) => {
  expect((await refusal(await waiting(), disk, state)) !== undefined).toBe(clash);
});

test("an inode of a mount without a device is the same file under the same name only", async () => {
  const [file] = filesOf([OVERLAY]);
  const inode = file!.split(" ").at(-1);
  const remounted = { ...noted([]), files: [`file 1048625 ${inode}`] };
  const isAnonymous = (BigInt(file!.split(" ")[1]!) >> 8n) % 4096n === 0n;
  const control = await waiting();
  const found = await refusal(control, diskIn([OVERLAY]), remounted);
  expect(found !== undefined).toBe(isAnonymous);
  expect(await refusal(control, diskIn([OVERLAY], false, "/srv/b.img"), remounted)).toBeUndefined();
});

test("who was stopped or has gone waits for nobody; whose server has just died does", async () => {
  const [disk, state] = [diskIn([OVERLAY]), noted([OVERLAY])];
  expect(await refusal(await waiting(DEAD), disk, state)).toBeUndefined();
  expect(await refusal(new SimControl(), disk, state)).toBeUndefined();
  expect(await refusal(await waiting(LIVE), disk, state)).toBeDefined();
});
