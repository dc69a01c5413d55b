/** src/control/affinity.ts: a thread gets CPUs that are there, and at first one. */

import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import * as libc from "../../../ffi/libc.ts";
import { oneCpu, refuseOffline, setQueueAffinity } from "../../../src/control/affinity.ts";
import { addDevice, cpuMask, cpusOf } from "../../../src/control/device.ts";
import { readState, writeState } from "../../../src/control/state.ts";
import { LIVE, QUIESCED, setState, SimControl } from "../../sim/control.ts";
import { tempFolder, thrown } from "../../temp.ts";

const path = tempFolder();

test("a set needs one CPU that is on line", () => {
  const file = path("online");
  writeFileSync(file, "0-1,4\n");
  refuseOffline([], { file });
  refuseOffline([[0], [4, 5]], { file });
  const refusal = thrown(() => refuseOffline([[0], [2, 3]], { file }));
  expect(String(refusal)).toContain("--queue-affinity 2,3: none of these CPUs is on line");
});

test("where nothing is known, nothing is refused", () => {
  expect(() => refuseOffline([[4095]], { file: path("missing") })).not.toThrow();
});

function allowedCpus(): number[] {
  const mask = cpuMask([]);
  libc.schedGetaffinity(mask);
  return cpusOf(mask);
}

test("a thread gets one CPU that its queue and this process have in common, another each turn", () => {
  const cpus = allowedCpus();
  expect(cpus.length).toBeGreaterThan(0);
  const queue = cpuMask([...cpus, 4000]);
  const given = [...cpus, ...cpus].map((_, turn) => cpusOf(oneCpu(queue, turn)));
  expect(given).toEqual([...cpus, ...cpus].map((cpu) => [cpu]));
});

test("a thread gets its queue's CPUs when this process may use none of them", () => {
  expect(cpusOf(oneCpu(cpuMask([4000, 4001]), 1))).toEqual([4000, 4001]);
});

describe("other CPUs", () => {
  const cpu = allowedCpus().at(-1)!;
  const allowed = (pid: number): string =>
    /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]!;

  /** A device whose state file knows the thread of `child`; the driver says what it says. */
  async function given(dir: string, state: number, isServer: boolean, cpus = [cpu]) {
    const child = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore"] });
    const before = allowed(child.pid);
    const control = new SimControl();
    const wish = { nr_hw_queues: 1, queue_depth: 32, max_io_buf_bytes: 65536, flags: 0x48n };
    await addDevice(control, 0, wish);
    setState(control.devices.get(0)!, state, isServer ? child.pid : process.pid);
    const serving = {
      zeroCopyMin: 0,
      pollUs: 0,
      threads: 0,
      limits: {},
      logLevel: "info" as const,
    };
    const target = { name: "null", config: {} };
    const rest = { target, serving, report: {}, affinity: [] };
    writeState({ dev_id: 0, tids: [[child.pid]], ...rest }, dir);
    await setQueueAffinity(control, 0, 0, cpus, dir);
    const now = allowed(child.pid);
    child.kill("SIGKILL");
    return { before, now, noted: readState(0, dir)!.affinity };
  }

  test("are the thread's at once, and noted for the next server", async () => {
    const { now, noted } = await given(path("live"), LIVE, true);
    expect([now, noted]).toEqual([`${cpu}`, [[cpu]]]);
  });

  test("are refused where none of them is there, also for the next server", async () => {
    const dir = path("offline");
    const error = await given(dir, QUIESCED, true, [4000]).catch((e: unknown) => e);
    expect(String(error)).toContain("set_affinity 4000: none of these CPUs is on line");
    expect(readState(0, dir)!.affinity).toEqual([]);
  });

  test.each([
    ["without a server", QUIESCED, true],
    ["whose server has no such thread", LIVE, false],
  ])(
    "of a device %s are only noted: its threads' numbers may be others'",
    async (why, state, isServer) => {
      const { before, now, noted } = await given(path(why), state, isServer);
      expect([now, noted]).toEqual([before, [[cpu]]]);
    },
  );
});
