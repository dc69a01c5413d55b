/** The hidden verb by which a daemon ends its own device: see `startEnder`. */

import { KernelChannel } from "../control/command.ts";
import { nameProcess } from "../control/launch.ts";
import { Identity } from "../control/nodes.ts";
import { endDevice } from "../control/remove.ts";

export async function runEnd(argv: readonly string[]): Promise<void> {
  nameProcess();
  // Whoever stops our parent may stop all that it started; this is what it was started for.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => {});
  const channel = new KernelChannel();
  const [id, incarnation] = argv.map(Number);
  await endDevice(channel, new Identity(id!, incarnation));
  channel.close();
  process.exit(0);
}
