/** src/control/affinity.ts: a thread gets CPUs that are there, and at first one. */

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import * as libc from "../../../ffi/libc.ts";
import { oneCpu, refuseOffline } from "../../../src/control/affinity.ts";
import { cpuMask, cpusOf } from "../../../src/control/device.ts";
import { tempFolder, thrown } from "../../temp.ts";

const path = tempFolder();

test("a set needs one CPU that is on line", () => {
  const online = path("online");
  writeFileSync(online, "0-1,4\n");
  refuseOffline([], online);
  refuseOffline([[0], [4, 5]], online);
  const refusal = thrown(() => refuseOffline([[0], [2, 3]], online));
  expect(String(refusal)).toContain("--queue-affinity 2,3: none of these CPUs is on line");
});

test("where nothing is known, nothing is refused", () => {
  expect(() => refuseOffline([[4095]], path("missing"))).not.toThrow();
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
