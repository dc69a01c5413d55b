/** src/control/reopen.ts: the disk is the one that the block device was made of, or none. */

import { expect, test } from "bun:test";
import { renameSync, truncateSync } from "node:fs";
import { SysError } from "../../../ffi/errno.ts";
import * as device from "../../../src/control/device.ts";
import type { AskedLimits } from "../../../src/control/limits.ts";
import { encodeParams } from "../../../src/control/params.ts";
import type { RecoverPlan } from "../../../src/control/recover.ts";
import { reopen } from "../../../src/control/reopen.ts";
import { filesOf } from "../../../src/control/same_files.ts";
import type { AnyTarget } from "../../../src/target/target.ts";
import loop from "../../../targets/loop.ts";
import nothing from "../../../targets/null.ts";
import { diskOf } from "../../disks.ts";
import { SimControl } from "../../sim/control.ts";
import { fileOf, tempFolder } from "../../temp.ts";

const MiB = 1 << 20;
const ID = 1_000_001;
const path = tempFolder();
const HOST = { target: loop as AnyTarget };
const say = (): void => {};

/** A device of 1 MiB, in blocks of so many bits. */
async function madeOf(blockBits: number): Promise<SimControl> {
  const control = new SimControl();
  const wish = { nr_hw_queues: 1, queue_depth: 32, max_io_buf_bytes: 65536, flags: 0x48n };
  await device.addDevice(control, ID, wish);
  await device.setParams(control, ID, encodeParams(diskOf({ blockBits }), 65536, "copy"));
  return control;
}

function planOf(file: string, limits: AskedLimits = {}): RecoverPlan {
  const config = loop.configure({ file });
  const serving = { zeroCopyMin: 0, pollUs: 0, threads: 0, logLevel: "info" } as const;
  const rest = { affinity: [], secret: false };
  return { id: ID, how: "recover", target: "loop", config, limits, ...serving, ...rest };
}

async function refusal(action: Promise<unknown>): Promise<string> {
  const error: unknown = await action.catch((failure: unknown) => failure);
  if (error instanceof SysError) return `${error.message} / ${error.hint}`;
  throw new Error(`no refusal but ${String(error)}`);
}

test.each([1, 512, 4096, MiB])(
  "a file that has grown by %i bytes makes no other disk",
  async (by) => {
    const file = fileOf(path("grown"), MiB);
    const { disk: first, close: closeFirst } = loop.open(loop.configure({ file }));
    closeFirst();
    truncateSync(file, MiB + by);
    for (const [bits, limits] of [
      [first.blockBits, {}],
      [12, {}],
      [12, { logicalBlock: 4096 }],
    ] as const) {
      const { disk, close } = await reopen(await madeOf(bits), planOf(file, limits), HOST, say);
      expect([disk.size, disk.blockBits]).toEqual([MiB, bits]);
      close();
    }
  },
);

test("one that was cut is refused, and let go of", async () => {
  const plan = planOf(fileOf(path("cut"), MiB / 2));
  const control = await madeOf(9);
  const why = await refusal(reopen(control, plan, HOST, say));
  expect(why).toStartWith(
    `recover device ${ID}: has 1048576 bytes, but what it is kept in only 524288 now / make that as`,
  );
  loop.open(loop.configure({ file: path("cut") })).close();
});

test("a file that took the image's name is refused, and let go of", async () => {
  const file = fileOf(path("kept"), MiB);
  const control = await madeOf(9);
  const once = await reopen(control, planOf(file), HOST, say, undefined);
  const files = filesOf(once.disk.files);
  once.close();
  (await reopen(control, planOf(file), HOST, say, files)).close();
  renameSync(file, `${file}.x`);
  fileOf(file, MiB);
  for (const before of [files, [...files, "block 2049"]]) {
    const why = await refusal(reopen(control, planOf(file), HOST, say, before));
    expect(why).toBe(
      `recover device ${ID}: was kept in another file than what has the name ${file} now / ` +
        `put that file back; or, if it is that disk, ublk recover -n ${ID} -f ${file}`,
    );
  }
  (await reopen(control, { ...planOf(file), anyFile: true }, HOST, say, files)).close();
  (await reopen(control, planOf(file), HOST, say, undefined)).close();
  renameSync(`${file}.x`, file);
  // What stands behind the image may have been moved, and the image told so.
  (await reopen(control, planOf(file), HOST, say, [...files, "block 2049"])).close();
});

test("a disk that is kept in no file has none to miss", async () => {
  const config = nothing.configure({ size: "1M" });
  const plan = { ...planOf("/nowhere"), target: "null", config };
  const host = { target: nothing as AnyTarget };
  (await reopen(await madeOf(9), plan, host, say, [])).close();
});
