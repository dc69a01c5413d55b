/** What devices cost that nobody uses: memory and CPU time of their daemons. */

import { raw } from "../vm/quote.ts";
import type { Vm } from "../vm/vm.ts";
import type { Idle } from "./numbers.ts";
import { addCommand, KUBLK, pidsIn } from "./servers.ts";
import { type IdleCase, nameOf } from "./table.ts";

/** What starting brings, udev and all, may go on for so long; then a daemon is at rest. */
const SETTLE_SECONDS = 60;
const SETTLE_STEP_SECONDS = 5;
const TICK_MS = 10;

export async function measureIdle(vm: Vm, one: IdleCase, watchSeconds: number): Promise<Idle[]> {
  const contestant = nameOf(one);
  const found: Idle[] = [];
  const pids: number[] = [];
  try {
    for (const devices of one.devices) {
      const add = addCommand(one.family, one.options);
      const loop = `for i in $(seq ${devices - pids.length}); do ${add} || exit; done`;
      pids.push(...pidsIn(await vm.sh`${raw(loop)}`));
      await settle(vm, pids);
      const cpu = await cpuOf(vm, pids, watchSeconds);
      found.push({ contestant, devices, cpu, ...(await memoryOf(vm, pids)) });
    }
  } catch (error) {
    const devices = one.devices[found.length] ?? 0;
    found.push({ contestant, devices, error: String(error).split("\n")[0] ?? "" });
  }
  await vm.sh`${raw(one.family === "kublk" ? KUBLK : "ublk")} del -a`;
  return found;
}

/** Waits until nearly nothing moves, within reason: what is never at rest is measured so. */
async function settle(vm: Vm, pids: number[]): Promise<void> {
  await vm.sh`udevadm settle`;
  for (let waited = 0; waited < SETTLE_SECONDS; waited += SETTLE_STEP_SECONDS) {
    if ((await cpuOf(vm, pids, SETTLE_STEP_SECONDS)) * SETTLE_STEP_SECONDS <= TICK_MS) return;
  }
}

/** Milliseconds of CPU time a second. */
async function cpuOf(vm: Vm, pids: number[], seconds: number): Promise<number> {
  const files = raw(pids.map((pid) => `/proc/${pid}/stat`).join(" "));
  const text = await vm.sh`cat ${files}; echo @; sleep ${seconds}; cat ${files}`;
  const [before = 0, after = 0] = text.split("@").map(ticks);
  return ((after - before) * TICK_MS) / seconds;
}

function ticks(stats: string): number {
  return stats
    .trim()
    .split("\n")
    .map((line) => line.slice(line.lastIndexOf(")") + 2).split(" "))
    .reduce((sum, fields) => sum + Number(fields[11]) + Number(fields[12]), 0);
}

async function memoryOf(vm: Vm, pids: number[]): Promise<Pick<Idle, "rss" | "pss" | "anonymous">> {
  const files = raw(pids.map((pid) => `/proc/${pid}/smaps_rollup`).join(" "));
  const text = await vm.sh`cat ${files}`;
  const sum = (name: string) =>
    [...text.matchAll(new RegExp(`^${name}:\\s+(\\d+)`, "gm"))].reduce(
      (total, [, kib]) => total + Number(kib),
      0,
    );
  return { rss: sum("Rss"), pss: sum("Pss"), anonymous: sum("Anonymous") };
}
