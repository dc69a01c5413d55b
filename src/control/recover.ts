/**
 * How another server takes over a device that has lost its own, or that is handed over.
 *
 * First the driver is waited for: it does not let go of a dead server before the last of that
 * one's writes has landed, because the char device is a file of every ring that writes. Then the
 * image's lock, which goes with the same rings. Only then is the image opened and looked at.
 */

import { EBUSY, EINVAL, ETIMEDOUT, SysError } from "../../ffi/errno.ts";
import type { DevInfo } from "../../ffi/ublk_cmd.ts";
import type { AnyTarget, Disk, OpenDisk, TargetRegistry } from "../target/target.ts";
import { type Channel, withChannel } from "./command.ts";
import type { Beginning, Listener } from "./daemon.ts";
import * as device from "./device.ts";
import { recoveryOf } from "./features.ts";
import { withLimits } from "./limits.ts";
import { Identity } from "./nodes.ts";
import { isTaken, openDisk } from "./open_disk.ts";
import { refuseUpgrade, sendHome } from "./quiesce.ts";
import type { Host, Service } from "./server.ts";
import { endDevice, isGone } from "./remove.ts";
import { whoHasOpen } from "./safe_stop.ts";
import { refuseOtherFiles } from "./same_files.ts";
import { isServed } from "./served.ts";
import { loadState } from "./state.ts";
import { beginTakeover, endTakeover } from "./takeover.ts";

/** What `recover` and `upgrade` want; plain data. */
export interface RecoverPlan extends Service {
  id: number;
  /** An upgrade first ends the server that there is. */
  how: "recover" | "upgrade";
}

/** Looks whether it can work; throws the reason why not. Nothing is changed. */
export async function planRecovery(
  channel: Channel,
  id: number,
  how: RecoverPlan["how"],
  targets: TargetRegistry,
): Promise<RecoverPlan> {
  const info = await device.getDevInfo(channel, id);
  refuseHopeless(info, how);
  if (how === "recover") refuseServed(info, how);
  else refuseUpgrade(info);
  const { target, serving, affinity } = loadState(id);
  const { name, config } = target;
  const { files } = await knownTarget(target, info, how, targets);
  if (how === "upgrade" && isServed(info)) refuseOtherFiles(info, () => files?.(config) ?? []);
  return { id, how, target: name, config, affinity, secret: false, ...serving };
}

/**
 * How to serve the device that is there and has lost its server; undefined when there is none. One
 * that was stopped is deleted. `whoServes` answers who has a char device open.
 */
export async function planWaiting(
  channel: Channel,
  id: number,
  targets: TargetRegistry,
  say: Say,
  whoServes: (path: string) => string | undefined = whoHasOpen,
): Promise<RecoverPlan | undefined> {
  const info = await settled(channel, id, say, whoServes);
  if (info === undefined) return undefined;
  if (device.stateName(info) !== "DEAD") return planRecovery(channel, id, "recover", targets);
  await endDevice(channel, new Identity(id));
  return undefined;
}

/** A server that begins opens the char device a moment after the device is there. */
const QUIET_LOOKS = 7;
const QUIET_PAUSE_MS = 100;
/** As long as a server waits for its nodes, and then some. */
const SETTLE_MS = 20_000;

/**
 * The device, once nobody is about to begin or to end it; undefined when there is none. One that
 * was just added is DEAD for the driver as one that was stopped is, but its server has it open.
 */
async function settled(
  channel: Channel,
  id: number,
  say: Say,
  whoServes: (path: string) => string | undefined,
): Promise<DevInfo | undefined> {
  let quiet = 0;
  const attempt = async (): Promise<{ info: DevInfo | undefined } | undefined> => {
    const info = await device.getDevInfo(channel, id).catch((error: unknown) => {
      if (isGone(error)) return undefined;
      throw error;
    });
    if (info === undefined || device.stateName(info) !== "DEAD") return { info };
    quiet = whoServes(device.charDevice(id)) === undefined ? quiet + 1 : 0;
    return quiet < QUIET_LOOKS ? undefined : { info };
  };
  const hint = `another ublk begins or ends it: fuser -v ${device.charDevice(id)} says which`;
  const what = `for the server of device ${id}, which is neither live nor gone`;
  return (await retry(attempt, { ms: SETTLE_MS, pause: QUIET_PAUSE_MS, what, hint }, say)).info;
}

/** The file was written by a program that knew the target; that need not be this one. */
async function knownTarget(
  { name, config }: { name: string; config: unknown },
  info: DevInfo,
  how: string,
  targets: TargetRegistry,
): Promise<AnyTarget> {
  const load = Object.hasOwn(targets, name) ? targets[name] : undefined;
  const hint = `ublk del -n ${info.dev_id} gives the device up`;
  if (load === undefined) {
    throw refused(info, how, `is of type '${name}', which this ublk does not have`, hint);
  }
  const known = await load();
  if (known.isConfig(config)) return known;
  throw refused(info, how, `has a state file that is no configuration of type ${name}`, hint);
}

const refused = (info: DevInfo, how: string, reason: string, hint: string): SysError =>
  new SysError({ op: how, errno: 0, subject: `device ${info.dev_id}`, reason, hint });

function refuseHopeless(info: DevInfo, how: string): void {
  const del = `ublk del -n ${info.dev_id} removes it`;
  if (recoveryOf(info.flags) === "none") {
    const reason = "was made without recovery: it ends with its server";
    throw refused(info, how, reason, "ublk add -r, -i or -e makes a device that outlives it");
  }
  if (device.stateName(info) === "DEAD") {
    throw refused(info, how, "is DEAD: it was stopped, or has never been live", del);
  }
}

function refuseServed(info: DevInfo, how: string): void {
  if (!isServed(info)) return;
  const reason = `is served already, by process ${info.ublksrv_pid}`;
  throw refused(info, how, reason, `ublk upgrade -n ${info.dev_id} replaces that`);
}

/** In the new server: waits for what is left of the old one, and opens the disk. */
export async function prepareRecovery(
  plan: RecoverPlan,
  host: Host,
  listener: Pick<Listener, "waiting">,
): Promise<Beginning> {
  const say = (line: string): void => listener.waiting(line);
  return withChannel(async (channel) => {
    beginTakeover(plan.id);
    try {
      if (plan.how === "upgrade") await sendHome(channel, plan.id, say);
      await waitForDriver(channel, plan, say);
      const open = await waitForImage(channel, plan, host, say);
      const disk = await fitted(channel, plan, withLimits(open.disk, plan.limits));
      return { open: { ...open, disk }, ...takeOver(plan) };
    } catch (error) {
      endTakeover(plan.id);
      throw error;
    }
  });
}

function takeOver({ id, how }: RecoverPlan): Omit<Beginning, "open"> {
  return {
    begin: async (server) => {
      const info = await device.getDevInfo(server.channel, id);
      try {
        await server.take(info);
      } catch (error) {
        if (!(error instanceof SysError) || error.errno !== EBUSY) throw error;
        throw refused(info, how, "is being recovered by somebody else", "ublk list shows it");
      }
      await server.attach(info);
      await server.goLive(() => device.endRecovery(server.channel, id));
      endTakeover(id);
    },
    // Our exit makes the device what it was before: one that waits for a server.
    giveUp: async (server) => {
      await server.abandon();
      endTakeover(id);
    },
    forget: async () => {},
  };
}

const DRIVER_WAIT_MS = 60_000;
const IMAGE_WAIT_MS = 30_000;
const PAUSE_MS = 20;
/** What takes longer than this is told. */
const PATIENCE_MS = 1000;

type Say = (line: string) => void;

/** Tries until it works; `attempt` answers undefined for "not yet". */
export async function retry<T>(
  attempt: () => Promise<T | undefined>,
  bound: { ms: number; pause: number; what: string; hint: string },
  say: Say,
): Promise<T> {
  const begun = performance.now();
  let told = false;
  for (;;) {
    const answer = await attempt();
    if (answer !== undefined) return answer;
    const passed = performance.now() - begun;
    if (!told && passed > PATIENCE_MS) {
      told = true;
      say(`waiting ${bound.what}`);
    }
    if (passed > bound.ms) {
      const reason = `not after ${bound.ms / 1000} s`;
      throw new SysError({
        op: "wait",
        errno: ETIMEDOUT,
        subject: bound.what,
        reason,
        hint: bound.hint,
      });
    }
    await Bun.sleep(bound.pause);
  }
}

/** START_USER_RECOVERY, until the driver has let go of the last server. */
export async function waitForDriver(
  channel: Channel,
  plan: Pick<RecoverPlan, "id" | "how">,
  say: Say,
  bound = { ms: DRIVER_WAIT_MS, pause: PAUSE_MS },
): Promise<void> {
  const what = `for the driver to let go of device ${plan.id}'s last server`;
  const hint = "its last requests may still be on their way to a slow disk: try again later";
  const attempt = async (): Promise<true | undefined> => {
    try {
      await device.startRecovery(channel, plan.id);
      return true;
    } catch (error) {
      if (!(error instanceof SysError) || ![EBUSY, EINVAL].includes(error.errno)) throw error;
      const info = await device.getDevInfo(channel, plan.id);
      refuseHopeless(info, plan.how);
      refuseServed(info, plan.how);
      // Linux 6.12 has heard it already, from a recovery that did not come to its end.
      if (error.errno === EINVAL && device.stateName(info) !== "LIVE") return true;
    }
    return undefined;
  };
  await retry(attempt, { ...bound, what, hint }, say);
}

async function waitForImage(
  channel: Channel,
  plan: RecoverPlan,
  host: Host,
  say: Say,
): Promise<OpenDisk> {
  let holder: SysError | undefined;
  const attempt = async (): Promise<OpenDisk | undefined> => {
    try {
      return openDisk(plan, host, plan.id);
    } catch (error) {
      if (!isTaken(error)) throw error;
      holder = error;
    }
    refuseServed(await device.getDevInfo(channel, plan.id), plan.how);
    return undefined;
  };
  const hint = "whoever has it open: the last server, qemu, or another recovery";
  const bound = { ms: IMAGE_WAIT_MS, pause: PAUSE_MS, what: "for the image's lock", hint };
  try {
    return await retry(attempt, bound, say);
  } catch (error) {
    throw error instanceof SysError && error.errno === ETIMEDOUT ? (holder ?? error) : error;
  }
}

/** The block device keeps its size and its blocks; the disk must still be able to have them. */
async function fitted(channel: Channel, plan: RecoverPlan, disk: Disk): Promise<Disk> {
  const { basic } = await device.getParams(channel, plan.id);
  const size = Number(basic.dev_sectors ?? 0) * 512;
  const block = 2 ** (basic.logical_bs_shift ?? 0);
  const facts = { op: plan.how, errno: 0, subject: `device ${plan.id}` };
  if (disk.size < size) {
    const reason = `has ${size} bytes, but what it is kept in only ${disk.size} now`;
    throw new SysError({ ...facts, reason, hint: "make that as large again, and try again" });
  }
  if (2 ** disk.blockBits > block) {
    const reason = `has blocks of ${block} bytes, but what it is kept in needs ${2 ** disk.blockBits}`;
    throw new SysError({ ...facts, reason, hint: "move the file back to where it was" });
  }
  return { ...disk, size };
}
