/** What a service manager wants to hear: sd_notify(3), over the socket that it names. */

import { Datagrams } from "../../ffi/datagram.ts";
import { SysError } from "../../ffi/errno.ts";

/** Says nothing where nobody asked for it, and goes on when nobody listens. */
export function notify(...assignments: string[]): void {
  const path = process.env["NOTIFY_SOCKET"];
  if (path === undefined || !/^[/@]./.test(path)) return;
  try {
    const socket = new Datagrams(path);
    try {
      socket.send(assignments.join("\n"));
    } finally {
      socket.close();
    }
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
  }
}

/** The device is served, by this process: also after another one did. */
export function notifyReady(status: string): void {
  notify("READY=1", `MAINPID=${process.pid}`, `STATUS=${status}`);
}

export function notifyStopping(): void {
  notify("STOPPING=1");
}
