/** Which CPUs a queue's thread is bound to: at first, and when somebody wants others. */

import { existsSync, readFileSync } from "node:fs";
import { EINVAL, ENODEV, type ErrorFacts, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import { parseCpuSet } from "../target/parse.ts";
import type { Channel } from "./command.ts";
import { cpuMask, cpusOf, getDevInfo } from "./device.ts";
import { hasThread } from "./process.ts";
import { isServed } from "./served.ts";
import { readState, writeState } from "./state.ts";

const ONLINE = "/sys/devices/system/cpu/online";

/** A queue's thread has to run somewhere. */
export function refuseOffline(
  sets: number[][],
  { file = ONLINE, op = "--queue-affinity" } = {},
): void {
  if (!existsSync(file)) return;
  const online = readFileSync(file, "utf8").trim();
  const cpus = new Set(parseCpuSet(file, online));
  for (const set of sets.filter((one) => !one.some((cpu) => cpus.has(cpu)))) {
    throw new SysError({
      op,
      errno: EINVAL,
      subject: set.join(","),
      reason: "none of these CPUs is on line",
      hint: `on line: ${online}`,
    });
  }
}

/**
 * One CPU of those whose requests come to a queue, as a cpu_set_t: another one for each `turn`.
 *
 * A thread that may move is woken on whichever CPU sleeps, and so is everybody who waits for it:
 * bound to one it served up to 2.3 times as many requests (src/README.md). `mask` itself where none
 * of its CPUs may be used.
 */
export function oneCpu(mask: Uint8Array<ArrayBuffer>, turn: number): Uint8Array<ArrayBuffer> {
  const allowed = new Uint8Array(new ArrayBuffer(mask.length));
  libc.schedGetaffinity(allowed);
  const usable = cpusOf(allowed.map((byte, index) => byte & mask[index]!));
  return usable.length === 0 ? mask : cpuMask([usable[turn % usable.length]!]);
}

/** Other CPUs for a queue's threads, now and in the state file that a later server takes over. */
export async function setQueueAffinity(
  channel: Channel,
  id: number,
  queueId: number,
  cpus: number[],
  dir?: string,
): Promise<void> {
  const facts = { op: "set_affinity", subject: `device ${id} queue ${queueId}` };
  const info = await getDevInfo(channel, id);
  const state = readState(id, dir);
  if (state === undefined) {
    const hint = "ublk list shows the devices; those of other servers cannot be set";
    throw new SysError({ ...facts, errno: ENODEV, reason: "no such device of ours", hint });
  }
  const tids = state.tids[queueId];
  if (tids === undefined) {
    throw new SysError({ ...facts, errno: EINVAL, reason: `has ${state.tids.length} queues` });
  }
  refuseOffline([cpus], { op: facts.op });
  // Without a server the numbers that are noted may be those of somebody else's threads.
  const running = isServed(info) ? tids.filter((tid) => hasThread(info.ublksrv_pid, tid)) : [];
  bindThreads(running, cpus, facts);
  const affinity = state.tids.map((_, queue) => state.affinity[queue] ?? null);
  affinity[queueId] = cpus;
  writeState({ ...state, affinity }, dir);
}

function bindThreads(tids: number[], cpus: number[], facts: Pick<ErrorFacts, "op" | "subject">) {
  try {
    for (const tid of tids) libc.schedSetaffinity(cpuMask(cpus), tid);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    const reason = error.errno === EINVAL ? "none of these CPUs is on line" : undefined;
    throw new SysError({
      ...facts,
      errno: error.errno,
      ...(reason === undefined ? {} : { reason }),
    });
  }
}
