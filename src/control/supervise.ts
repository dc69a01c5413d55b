/**
 * Whoever watches a server, and sees to it that another one follows when it dies.
 *
 * It sleeps in one system call until the server's end, and holds little memory meanwhile. A
 * server that ends because its device was stopped, deleted or handed over is no death. When
 * servers die too often, it stops the device: who waits for its IO is told the truth.
 */

import { SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import type { DevInfo } from "../../ffi/ublk_cmd.ts";
import { type Channel, withChannel } from "./command.ts";
import { getDevInfo, stateName, stopDevice } from "./device.ts";
import type { Log } from "./log.ts";
import { Identity } from "./nodes.ts";
import { giveBackProgram } from "./process.ts";
import { isGone } from "./remove.ts";
import { isServed, openServer } from "./served.ts";
import { readState, writeState } from "./state.ts";
import { takeoverBy } from "./takeover.ts";

/** So many deaths in so long a time are too many. */
const DEATHS_MAX = 5;
const WINDOW_MS = 60_000;
/** How long to wait before the first, second, … try; the first costs nobody time. */
const BACK_OFF_MS = [0, 100, 500, 1000];
/** While somebody else takes over, or the driver has not seen the death yet. */
const PAUSE_MS = 50;

/** What is decided about a death. */
export class Deaths {
  #times: number[] = [];

  /** How long to wait before the next try; undefined when there have been too many. */
  note(now: number): number | undefined {
    this.#times = [...this.#times.filter((time) => now - time < WINDOW_MS), now];
    const count = this.#times.length;
    if (count >= DEATHS_MAX) return undefined;
    return BACK_OFF_MS[Math.min(count, BACK_OFF_MS.length) - 1];
  }
}

/** Starts the next server: the open executable `program`, which the last one was. */
export type Recover = (program: number) => Promise<void>;

/** Returns when the device has ended, or is given up. */
export async function supervise(id: number, recover: Recover, log: Log): Promise<void> {
  const watched = new Identity(id);
  const deaths = new Deaths();
  let program = libc.open("/proc/self/exe", libc.O_RDONLY);
  for (let reason = ""; ;) {
    // Asked before the look: who has taken over by then is what the look sees.
    const taker = takeoverBy(id);
    const info = await look(id);
    if (info === undefined || stateName(info) === "DEAD" || watched.isGone) return;
    if (isServed(info)) {
      program = await restUntilEnd(info, program);
      continue;
    }
    if (taker !== undefined) {
      await Bun.sleep(PAUSE_MS);
      continue;
    }
    reason ||= `server ${info.ublksrv_pid} died`;
    const pause = deaths.note(performance.now());
    if (pause === undefined) return withChannel((channel) => giveUp(channel, id, reason, log));
    log.say("error", `${reason}: ${pause === 0 ? "another takes over" : `again in ${pause} ms`}`);
    await Bun.sleep(pause);
    reason = await attempt(() => recover(program), log);
  }
}

/** "" when another server serves the device; otherwise why not. */
async function attempt(recover: () => Promise<void>, log: Log): Promise<string> {
  const begun = performance.now();
  try {
    await recover();
    log.say("info", `served again after ${Math.round(performance.now() - begun)} ms`);
    return "";
  } catch (error) {
    return `no server could take over: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** After an upgrade it is not the one that we are. Answers `last`, or closes it. */
function programOf(pid: number, server: number, last: number): number {
  let program: number;
  try {
    program = libc.open(`/proc/${pid}/exe`, libc.O_RDONLY);
  } catch (error) {
    if (error instanceof SysError) return last; // it has just died
    throw error;
  }
  // It is started as root one day: never what has got the number of a server that died meanwhile.
  const isDead = libc.pollIn(server, 0);
  libc.close(isDead ? program : last);
  return isDead ? last : program;
}

/** Undefined when there is no such device any more. */
async function look(id: number): Promise<DevInfo | undefined> {
  try {
    return await withChannel((channel) => getDevInfo(channel, id));
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** Stops the device, whatever else fails: who waits for its IO would wait for ever. */
export async function giveUp(
  channel: Channel,
  id: number,
  reason: string,
  log: Log,
  dir?: string,
): Promise<void> {
  const why = `${DEATHS_MAX} deaths in ${WINDOW_MS / 1000} s; the last: ${reason}`;
  log.say("error", `given up and stopped after ${why}`);
  log.bestEffort("`ublk list` does not say why", () => {
    const state = readState(id, dir);
    if (state === undefined) return;
    writeState({ ...state, report: { ...state.report, given_up: why } }, dir);
  });
  await stopDevice(channel, id).catch((error: unknown) => {
    if (!isGone(error)) log.say("error", `cannot be stopped: ${String(error)}`);
  });
}

/** Of the server. Answers its executable, which is to be the next one's; `last`: the one before. */
async function restUntilEnd(info: DevInfo, last: number): Promise<number> {
  const server = openServer(info);
  if (server < 0) {
    await Bun.sleep(PAUSE_MS); // the driver has not seen the death yet
    return last;
  }
  try {
    const program = programOf(info.ublksrv_pid, server, last);
    giveBackProgram();
    libc.pollIn(server, libc.FOR_EVER);
    return program;
  } finally {
    libc.close(server);
    await Bun.sleep(0); // a child of ours is reaped
  }
}
