/** How a device begins: ADD_DEV, SET_PARAMS, threads that fetch, START_DEV. */

import { KernelChannel } from "./command.ts";
import type { Beginning } from "./daemon.ts";
import * as device from "./device.ts";
import { type AskedFeatures, choose, modeOf } from "./features.ts";
import { refuseKept } from "./kept.ts";
import { withLimits } from "./limits.ts";
import { openDisk } from "./open_disk.ts";
import { encodeParams } from "./params.ts";
import { isDenied, isGone } from "./remove.ts";
import type { Host, Server, Service } from "./server.ts";
import { removeState } from "./state.ts";
import { within } from "./within.ts";

/** What `add` wants; plain data, as it crosses from the command line to the daemon. */
export interface ServePlan extends Service {
  affinity: number[][];
  /** -1: the driver chooses. */
  id: number;
  queues: number;
  depth: number;
  maxIoBytes: number;
  features: AskedFeatures;
}

export function prepareStart(plan: ServePlan, host: Host): Beginning {
  const open = openDisk(plan, host);
  const limited = withLimits(open.disk, plan.limits);
  return {
    open: { ...open, disk: limited },
    begin: async (server) => {
      await refuseKept(server.channel, limited);
      const offered = await device.getFeatures(server.channel);
      const info = await device.addDevice(server.channel, plan.id, {
        nr_hw_queues: plan.queues,
        queue_depth: plan.depth,
        max_io_buf_bytes: plan.maxIoBytes,
        flags: choose(plan.features, offered, limited).flags,
      });
      await server.take(info);
      const params = encodeParams(limited, info.max_io_buf_bytes, modeOf(info.flags));
      await device.setParams(server.channel, server.id, params);
      await server.attach(info);
      await server.goLive(() => device.startDevice(server.channel, server.id));
    },
    giveUp: async (server) => {
      if (server.id >= 0) await server.stopThreads();
    },
    forget: deleteOwn,
  };
}

const DELETE_WAIT_MS = 5000;

/**
 * Deletes a device that never went live, or that we had to stop ourselves. Whoever still has it
 * open keeps the driver from finishing; the deletion stands nevertheless, so we do not wait for
 * them for ever.
 */
export async function deleteOwn(server: Server): Promise<void> {
  const { id, identity } = server;
  if (identity === undefined || identity.isReplaced) return;
  if (!identity.isGone) await deleteDevice(id);
  removeState(id);
}

async function deleteDevice(id: number): Promise<void> {
  const channel = new KernelChannel();
  const deleted = device.deleteDevice(channel, id).catch((error: unknown) => {
    // Denied: nobody gave us the node, which is the error that is on its way already.
    if (!isGone(error) && !isDenied(error)) throw error;
  });
  await within(DELETE_WAIT_MS, deleted);
  channel.close();
}
