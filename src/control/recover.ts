/**
 * How another server takes over a device that has lost its own, or that is handed over.
 *
 * First the driver is waited for: it does not let go of a dead server before the last of that
 * one's writes has landed, because the char device is a file of every ring that writes. Then the
 * image's lock, which goes with the same rings. Only then is the image opened and looked at.
 */

import { EBUSY, EINVAL, SysError } from "../../ffi/errno.ts";
import type { DevInfo } from "../../ffi/ublk_cmd.ts";
import type { AnyTarget, TargetRegistry } from "../target/target.ts";
import { type Channel, withChannel } from "./command.ts";
import type { Beginning, Listener } from "./daemon.ts";
import * as device from "./device.ts";
import { Identity } from "./nodes.ts";
import { refuseUpgrade, sendHome } from "./quiesce.ts";
import { refused, refuseHopeless, refuseServed } from "./recoverable.ts";
import { reopen } from "./reopen.ts";
import { retry, type Say } from "./retry.ts";
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
  /** Somebody has said which file, be it another one than before. */
  anyFile?: boolean;
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
      return { open: await reopen(channel, plan, host, say), ...takeOver(plan) };
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
const PAUSE_MS = 20;

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
