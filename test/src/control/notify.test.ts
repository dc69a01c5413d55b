/** src/control/notify.ts: what a service manager hears, and that nobody else is disturbed. */

import { afterEach, expect, test } from "bun:test";
import { notify, notifyReady, notifyStopping } from "../../../src/control/notify.ts";
import { Receiver } from "../../receiver.ts";
import { tempFolder } from "../../temp.ts";

const path = tempFolder();

afterEach(() => {
  delete process.env["NOTIFY_SOCKET"];
});

test.each([
  ["a path", path("notify")],
  ["an abstract name", `@ublk-test-${process.pid}`],
])("readiness and the end are told, to %s", (_, socket) => {
  const manager = new Receiver(socket);
  process.env["NOTIFY_SOCKET"] = socket;
  notifyReady("ublk0 is live");
  notifyStopping();
  const ready = `READY=1\nMAINPID=${process.pid}\nSTATUS=ublk0 is live`;
  expect(manager.take()).toEqual([ready, "STOPPING=1"]);
  manager.close();
});

test.each([undefined, "", "/", "relative", "/nowhere/at/all", `/${"x".repeat(200)}`])(
  "nothing happens when the socket is '%s'",
  (socket) => {
    if (socket !== undefined) process.env["NOTIFY_SOCKET"] = socket;
    expect(notify("READY=1")).toBeUndefined();
  },
);
