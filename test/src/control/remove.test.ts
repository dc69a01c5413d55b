/** src/control/remove.ts: a device and its daemon are gone when it returns. */

import { describe, expect, test } from "bun:test";
import { constants } from "node:os";
import { SysError } from "../../../ffi/errno.ts";
import * as device from "../../../src/control/device.ts";
import { Identity } from "../../../src/control/nodes.ts";
import { encodeParams } from "../../../src/control/params.ts";
import { isServing } from "../../../src/control/process.ts";
import { endDevice, isGone, removeDevice, stopForGood } from "../../../src/control/remove.ts";
import { removeState, writeState } from "../../../src/control/state.ts";
import { within } from "../../../src/control/within.ts";
import { diskOf } from "../../disks.ts";
import { tempFolder } from "../../temp.ts";
import { DEAD, LIVE, QUIESCED, setState, SimControl } from "../../sim/control.ts";

const { ENODEV, EBUSY } = constants.errno;
const ID = 1_000_001;
const GONE = 0;
const GET_DEV_INFO2 = 0x12;
const TRY_STOP = 0x17;
const STOP = 0x07;
const DEL = 0x05;

process.env["XDG_RUNTIME_DIR"] = tempFolder()(""); // root has a directory all the same

/** The state file of a device whose one queue has this thread. */
function noted(tid: number, id = ID): void {
  writeState({
    dev_id: id,
    target: { name: "null", config: {} },
    serving: { zeroCopyMin: 0, pollUs: 0, threads: 0, limits: {}, logLevel: "info" },
    report: {},
    tids: [[tid]],
    affinity: [],
  });
}

async function served(pid: number, user = false, id = ID): Promise<SimControl> {
  const control = new SimControl();
  control.root = !user;
  const flags = user ? 0x60n : 0x40n;
  const wish = { nr_hw_queues: 1, queue_depth: 32, max_io_buf_bytes: 65536, flags };
  await device.addDevice(control, id, wish);
  await device.setParams(control, id, encodeParams(diskOf(), 65536, "copy"));
  await device.startDevice(control, id);
  control.devices.get(id)!.info.setInt32(16, pid, true);
  return control;
}

test("it is stopped, deleted, and our daemon waited for", async () => {
  const daemon = Bun.spawn(["sleep", "1.5"], { stdio: ["ignore", "ignore", "ignore"] });
  noted(daemon.pid);
  const control = await served(daemon.pid);
  await removeDevice(control, ID);
  expect(isServing(daemon.pid)).toBe(false);
  expect(control.log.slice(-2)).toEqual([STOP, DEL]);
  expect(control.devices.size).toBe(0);
});

describe("whoever goes on living is left alone:", () => {
  test.each([
    ["another program's server of many devices", undefined],
    ["a stranger with the number of a server that died", 2 ** 22 + 1],
  ])("%s", async (_, tid) => {
    const other = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore"] });
    for (const end of [removeDevice, stopForGood]) {
      if (tid !== undefined) noted(tid);
      const control = await served(other.pid);
      await end(control, ID);
      expect(isServing(other.pid)).toBe(true);
    }
    other.kill("SIGKILL");
    removeState(ID);
  });
});

test("our server is waited for, though its threads go with the first command", async () => {
  for (const how of [{}, { safe: true }]) {
    const server = Bun.spawn(["sleep", "1.6"], { stdio: ["ignore", "ignore", "ignore"] });
    noted(server.pid);
    const control = await served(server.pid);
    const send = control.send.bind(control);
    control.send = (cmdOp, cmd) => {
      if ([STOP, TRY_STOP].includes(cmdOp & 0xff)) removeState(ID); // as if no thread were left
      return send(cmdOp, cmd);
    };
    await removeDevice(control, ID, how);
    expect(isServing(server.pid)).toBe(false);
  }
});

test("of two that end at once, neither waits for the other's server", async () => {
  const times = [1.5, 0.1].map(async (seconds, at) => {
    const server = Bun.spawn(["sleep", String(seconds)], { stdio: ["ignore", "ignore", "ignore"] });
    noted(server.pid, ID + at);
    const control = await served(server.pid, false, ID + at);
    const begun = performance.now();
    await removeDevice(control, ID + at);
    return performance.now() - begun;
  });
  const [long, short] = await Promise.all(times);
  expect(long! - short!).toBeGreaterThan(500);
});

test("a device that nobody serves is deleted all the same", async () => {
  for (const pid of [-1, 0, 2 ** 22]) {
    const control = await served(pid);
    await removeDevice(control, ID);
    expect(control.devices.size).toBe(0);
  }
});

test("an ordinary user's device is not deleted without waiting, and stays as it is", async () => {
  const control = await served(-1, true);
  const error: unknown = await removeDevice(control, ID, { async: true }).catch((e: unknown) => e);
  expect((error as SysError).message).toContain("only while somebody waits");
  expect(control.devices.size).toBe(1);
  expect(control.log).not.toContain(STOP);
  await removeDevice(control, ID);
  expect(control.devices.size).toBe(0);
});

test("a device that its own daemon deletes meanwhile is no error", async () => {
  const control = await served(-1);
  const send = control.send.bind(control);
  control.send = (cmdOp, cmd) => {
    if ((cmdOp & 0xff) === STOP) control.devices.clear();
    return send(cmdOp, cmd);
  };
  await removeDevice(control, ID);
});

test("a device that somebody still has open is waited for, hidden or not", async () => {
  for (const hidden of [true, false]) {
    const control = await served(-1);
    const send = control.send.bind(control);
    const closed = Promise.withResolvers<void>();
    control.send = async (cmdOp, cmd) => {
      if ((cmdOp & 0xff) === DEL) await closed.promise;
      return send(cmdOp, cmd);
    };
    const which = new Identity(ID, 5, () => (hidden ? GONE : 5));
    const ended = endDevice(control, which).then(() => "ended");
    expect(await Promise.race([ended, Bun.sleep(200).then(() => "waits")])).toBe("waits");
    closed.resolve();
    expect(await ended).toBe("ended");
    expect(control.log.slice(-2)).toEqual([STOP, DEL]);
  }
});

test("another device that takes the id is not waited for, and not ended", async () => {
  // Linux waits until the id is free. Here it was for a moment, and the driver did not notice.
  let now = 5;
  const control = await served(-1);
  const send = control.send.bind(control);
  control.send = (cmdOp, cmd) => {
    if ((cmdOp & 0xff) !== DEL) return send(cmdOp, cmd);
    now = 6;
    return new Promise(() => {});
  };
  const look = (): number => now;
  expect(await within(5000, endDevice(control, new Identity(ID, 5, look)))).toBe(true);
  // And the other way round: it was replaced while we waited for our turn.
  const before = control.log.length;
  await endDevice(control, new Identity(ID, 5, look));
  expect(control.log.length).toBe(before);
});

test("a device that is replaced while it is stopped is not deleted in place of the first", async () => {
  let now = 5;
  const control = await served(-1);
  const send = control.send.bind(control);
  control.send = (cmdOp, cmd) => {
    if ((cmdOp & 0xff) === STOP) now = 6;
    return send(cmdOp, cmd);
  };
  await endDevice(control, new Identity(ID, 5, () => now));
  expect(control.log).not.toContain(DEL);
});

test("a device that is not there is an error that says so", async () => {
  const error: unknown = await removeDevice(new SimControl(), ID).catch((e: unknown) => e);
  expect(isGone(error)).toBe(true);
  expect((error as SysError).hint).toContain("ublk list");
});

test("only ENODEV means gone", () => {
  expect(isGone(new SysError({ op: "x", errno: ENODEV }))).toBe(true);
  expect(isGone(new SysError({ op: "x", errno: EBUSY }))).toBe(false);
  expect(isGone(new Error("ENODEV"))).toBe(false);
});

const DEL_ASYNC = 0x14;

test("a device that is stopped stays, and stopping it again is no error", async () => {
  const control = await served(-1);
  await stopForGood(control, ID);
  expect(control.devices.get(ID)?.state).toBe(DEAD);
  await stopForGood(control, ID, { safe: true });
  expect(control.log.filter((nr) => nr === STOP || nr === TRY_STOP)).toEqual([STOP]);
});

test("with --safe a device in use is left alone, by stop and by del", async () => {
  const control = await served(-1);
  const sim = control.devices.get(ID)!;
  sim.inUse = true;
  for (const end of [removeDevice, stopForGood]) {
    const error = (await end(control, ID, { safe: true }).catch((e: unknown) => e)) as SysError;
    expect(error.errno).toBe(EBUSY);
    expect(error.message).toContain("is in use: it is open");
    expect(error.hint).toContain("without --safe");
    expect(sim.state).toBe(LIVE);
  }
  sim.inUse = false;
  await removeDevice(control, ID, { safe: true });
  expect(control.log).toContain(TRY_STOP);
  expect(control.devices.size).toBe(0);
});

test("with --safe a device is left alone that has become live, and is in use, meanwhile", async () => {
  const control = await served(-1);
  const sim = control.devices.get(ID)!;
  setState(sim, DEAD, -1);
  const send = control.send.bind(control);
  control.send = async (cmdOp, cmd) => {
    const answer = await send(cmdOp, cmd);
    if ((cmdOp & 0xff) === GET_DEV_INFO2 && !sim.inUse) {
      setState(sim, LIVE, -1);
      sim.inUse = true;
    }
    return answer;
  };
  const error: unknown = await removeDevice(control, ID, { safe: true }).catch((e: unknown) => e);
  expect((error as SysError).message).toContain("is in use: it is open");
  expect(sim.state).toBe(LIVE);
  expect(control.log).not.toContain(STOP);
});

test("with --unserved a device that has a server is left alone, and no other", async () => {
  const control = await served(process.pid);
  const error = (await stopForGood(control, ID, { unserved: true }).catch(
    (e: unknown) => e,
  )) as SysError;
  expect([error.errno, error.message]).toEqual([
    EBUSY,
    `stop device ${ID}: has a server, process ${process.pid}`,
  ]);
  expect(error.hint).toContain("without --unserved");
  expect(control.log).not.toContain(STOP);
  const sim = control.devices.get(ID)!;
  for (const [state, pid] of [
    [LIVE, 2 ** 22],
    [QUIESCED, -1],
  ] as const) {
    setState(sim, state, pid);
    await stopForGood(control, ID, { unserved: true });
    expect(sim.state).toBe(DEAD);
  }
});

test("with --async nobody is waited for", async () => {
  const daemon = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore"] });
  const control = await served(daemon.pid);
  await removeDevice(control, ID, { async: true });
  expect(control.log.at(-1)).toBe(DEL_ASYNC);
  expect(control.log).not.toContain(DEL);
  daemon.kill("SIGKILL");
});
