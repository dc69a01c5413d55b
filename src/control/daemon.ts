/** The server process: from a plan to a live device, and back to nothing. */

import * as libc from "../../ffi/libc.ts";
import type { OpenDisk } from "../target/target.ts";
import { isolate } from "./isolate.ts";
import { openMailbox } from "./mailbox.ts";
import { notifyStopping } from "./notify.ts";
import { wasDeleted } from "./nodes.ts";
import { giveBackProgram, isIgnored, liftLimits } from "./process.ts";
import { prepareRecovery, type RecoverPlan } from "./recover.ts";
import { ResizeServer } from "./resize_server.ts";
import { type Host, Server } from "./server.ts";
import { deleteOwn, prepareStart, type ServePlan } from "./start.ts";
import { prepareStateDirectory } from "./state_directory.ts";

export type DaemonPlan = ServePlan | RecoverPlan;

/** One way to come by a device: a new one, or that of a server that is gone. */
export interface Beginning {
  open: OpenDisk;
  /** Resolves when the device is live. */
  begin(server: Server): Promise<void>;
  /** After a failure in between: ends the threads where that is ours to do. */
  giveUp(server: Server): Promise<void>;
  /** Afterwards, with nothing of the device in our hands. */
  forget(server: Server): Promise<void>;
}

/** Whom the daemon tells how it goes. */
export interface Listener {
  /** What it waits for, when that takes long. */
  waiting(line: string): void;
  /** The block device exists. False: whoever wanted it has gone. */
  live(id: number): Promise<boolean>;
}

/** Serves until the device is stopped. */
export async function serve(plan: DaemonPlan, host: Host, listener: Listener): Promise<void> {
  host.log.bestEffort("may be ended by its caller's ulimit", liftLimits);
  prepareStateDirectory();
  const way =
    "how" in plan ? await prepareRecovery(plan, host, listener) : prepareStart(plan, host);
  isolate(host.log);
  const server = new Server(plan, host, way.open.disk);
  onSignals((signal) => {
    host.log.say("info", `${signal}: stopping`);
    notifyStopping();
    server.stop();
  });
  try {
    await way.begin(server).catch((error: unknown) => {
      throw server.deleted ? wasDeleted(server.id) : error; // whatever failed, failed for that
    });
    const resizes = new ResizeServer(server.id, way.open, server.threads);
    host.log.bestEffort("keeps its size: it cannot be asked", () =>
      openMailbox(server.id, () => resizes.welcome()),
    );
    const heard = await listener.live(server.id);
    // One that was there before is served all the same: somebody uses it.
    if (!heard && !("how" in plan)) {
      host.log.say("warn", "whoever added it has gone: deleting it");
      server.stop();
    }
    giveBackProgram();
    // A page of ours that went to a swap device which we serve would never come back.
    host.log.bestEffort("memory may be swapped out", libc.mlockall);
    await server.ended();
    host.log.say("info", "stopped");
  } finally {
    const isQuiet = await letGo(server, way);
    if (isQuiet) way.open.close();
    await server.helperEnded();
    if (isQuiet && server.isAlone) await deleteOwn(server);
  }
}

/** SIGTERM ends a server in any case; the others not where it was started to live through them. */
function onSignals(stop: (signal: string) => void): void {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    if (signal === "SIGTERM" || !isIgnored(signal)) process.on(signal, stop);
  }
}

/** Leaves nothing behind, whatever had been reached; false while something may be in flight. */
async function letGo(server: Server, way: Beginning): Promise<boolean> {
  if (!server.live) await way.giveUp(server);
  const quiet = await server.cleanUp();
  if (quiet && !server.live) await way.forget(server);
  return quiet;
}
