/** src/control/recover.ts: what can be recovered, and how long the driver is waited for. */

import { describe, expect, test } from "bun:test";
import { SysError } from "../../../ffi/errno.ts";
import * as device from "../../../src/control/device.ts";
import { flagBit } from "../../../src/control/features.ts";
import { encodeParams } from "../../../src/control/params.ts";
import { planRecovery, planWaiting, waitForDriver } from "../../../src/control/recover.ts";
import { targets } from "../../../targets/index.ts";
import { diskOf } from "../../disks.ts";
import { DEAD, LIVE, QUIESCED, setState, SimControl } from "../../sim/control.ts";

const RECOVERY = flagBit("UBLK_F_USER_RECOVERY");
const SHORT = { ms: 300, pause: 5 };
const PLAN = { id: 0, how: "recover" } as const;

async function served(flags = RECOVERY, pid = process.pid) {
  const control = new SimControl();
  const wish = { nr_hw_queues: 1, queue_depth: 32, max_io_buf_bytes: 65536 };
  await device.addDevice(control, 0, { ...wish, flags: flags | 0x40n });
  await device.setParams(control, 0, encodeParams(diskOf(), 65536, "copy"));
  await device.startDevice(control, 0);
  control.devices.get(0)!.info.setInt32(16, pid, true);
  return { control, sim: control.devices.get(0)! };
}

async function refusal(action: Promise<unknown>): Promise<SysError> {
  const error: unknown = await action.catch((failure: unknown) => failure);
  if (error instanceof SysError) return error;
  throw new Error(`no refusal but ${String(error)}`);
}

describe("refused before anything is done is a device", () => {
  test("without recovery", async () => {
    const { control } = await served(0n);
    const error = await refusal(planRecovery(control, 0, "recover", targets));
    expect(error.message).toBe(
      "recover device 0: was made without recovery: it ends with its server",
    );
    expect(error.hint).toContain("ublk add -r");
  });

  test("that is dead", async () => {
    const { control, sim } = await served();
    setState(sim, DEAD, -1);
    const error = await refusal(planRecovery(control, 0, "recover", targets));
    expect(error.message).toContain("is DEAD");
    expect(error.hint).toBe("ublk del -n 0 removes it");
  });

  test("that is served", async () => {
    const { control } = await served();
    const error = await refusal(planRecovery(control, 0, "recover", targets));
    expect(error.message).toContain(`is served already, by process ${process.pid}`);
  });

  test("that is not there", async () => {
    const error = await refusal(planRecovery(new SimControl(), 0, "recover", targets));
    expect(error.hint).toContain("there is no ublk device 0");
  });
});

describe("to --or-recover, a device that is DEAD", () => {
  const say = (): void => {};

  test("and that no process has open was stopped: it is deleted", async () => {
    const { control, sim } = await served();
    setState(sim, DEAD, -1);
    expect(await planWaiting(control, 0, targets, say, () => undefined)).toBeUndefined();
    expect(control.devices.size).toBe(0);
  });

  test("and whose server begins is not taken for one that was stopped", async () => {
    const { control, sim } = await served();
    setState(sim, DEAD, -1);
    // Its char device is opened a moment after it was added, and it is live some time later.
    let looks = 0;
    const who = (path: string): string | undefined => {
      expect(path).toBe("/dev/ublkc0");
      if (looks === 3) setState(sim, LIVE, process.pid);
      return looks++ === 0 ? undefined : "4711";
    };
    const error = await refusal(planWaiting(control, 0, targets, say, who));
    expect(error.message).toContain(`is served already, by process ${process.pid}`);
    expect(control.devices.size).toBe(1);
    expect(control.log).not.toContain(0x07);
  });

  test("and that goes meanwhile needs nobody", async () => {
    const { control, sim } = await served();
    setState(sim, DEAD, -1);
    const who = (): string => {
      control.devices.clear();
      return "4711";
    };
    expect(await planWaiting(control, 0, targets, say, who)).toBeUndefined();
  });
});

describe("the driver", () => {
  test("that has let go is not waited for", async () => {
    const { control, sim } = await served();
    setState(sim, QUIESCED, -1);
    const said: string[] = [];
    await waitForDriver(control, PLAN, (line) => void said.push(line), SHORT);
    expect(said).toEqual([]);
  });

  test("is waited for while files of the dead server are open, and while it is LIVE", async () => {
    const { control, sim } = await served(RECOVERY, 2 ** 22 + 1);
    sim.open = true;
    const begun = performance.now();
    setTimeout(() => setState(sim, QUIESCED, -1), 50);
    setTimeout(() => (sim.open = false), 100);
    await waitForDriver(control, PLAN, () => {}, { ms: 5000, pause: 5 });
    expect(performance.now() - begun).toBeGreaterThan(90);
  });

  test("is not waited for longer than the bound, and what took long is said", async () => {
    const { control, sim } = await served();
    setState(sim, QUIESCED, -1);
    sim.open = true;
    const said: string[] = [];
    const bound = { ms: 1200, pause: 5 };
    const error = await refusal(
      waitForDriver(control, PLAN, (line) => void said.push(line), bound),
    );
    expect(said).toEqual(["waiting for the driver to let go of device 0's last server"]);
    expect(error.message).toContain("not after 1.2 s");
    expect(error.hint).toContain("slow disk");
  });

  test("that has heard of another recovery, which failed, is not told again (6.12)", async () => {
    const { control, sim } = await served();
    setState(sim, QUIESCED, -1);
    const send = control.send.bind(control);
    control.send = async (cmdOp, cmd) => ((cmdOp & 0xff) === 0x10 ? -22 : send(cmdOp, cmd));
    await waitForDriver(control, PLAN, () => {}, SHORT);
    setState(sim, 1, 2 ** 22 + 1);
    expect((await refusal(waitForDriver(control, PLAN, () => {}, SHORT))).message).toContain("not");
  });

  test("that has another server meanwhile is that one's", async () => {
    const { control, sim } = await served();
    setState(sim, QUIESCED, -1);
    sim.open = true;
    setTimeout(() => setState(sim, 1, process.pid), 50);
    const error = await refusal(waitForDriver(control, PLAN, () => {}, { ms: 5000, pause: 5 }));
    expect(error.message).toContain("is served already");
  });

  test("that lost the device meanwhile has nothing to wait for", async () => {
    const { control, sim } = await served();
    setState(sim, DEAD, -1);
    const error = await refusal(waitForDriver(control, PLAN, () => {}, SHORT));
    expect(error.message).toContain("is DEAD");
  });
});

describe("a configuration that was saved", () => {
  const LINES: Record<string, Record<string, string | boolean>> = {
    null: { size: "1G" },
    loop: { file: "/a.img", offset: "8" },
    qcow2: { file: "/a.qcow2" },
    fault_inject: { size: "1G", die: "in-recovery", "error-rate": "1%" },
  };

  test.each(Object.keys(targets))("of type %s is believed, and no other", async (name) => {
    const target = await targets[name]!();
    const config = JSON.parse(JSON.stringify(target.configure(LINES[name]!))) as object;
    expect(target.isConfig(config)).toBe(true);
    for (const wrong of [null, 5, "x", [], {}]) expect(target.isConfig(wrong)).toBe(false);
    for (const field of Object.keys(config)) {
      expect(target.isConfig({ ...config, [field]: Symbol("wrong") }), field).toBe(false);
    }
  });
});
