/** A Worker that does what its plan's configuration says, for threads.test.ts. */

import { EIO } from "../../../ffi/errno.ts";
import type { ThreadMessage, ThreadPlan } from "../../../src/control/threads.ts";

declare const self: Worker;

const say = (message: ThreadMessage): void => self.postMessage(message);

self.addEventListener("message", (event: MessageEvent<ThreadPlan>) => {
  const { config } = event.data;
  if (config === "throw before ready") throw new Error("ouch");
  if (config === "fail before ready") {
    say({ kind: "failed", facts: { op: "mmap", errno: 12, hint: "buy memory" } });
    process.exit(0);
  }
  if (config === "leave before ready") process.exit(0);
  say({ kind: "ready", tid: 4711, ringFd: 7 });
  say({ kind: "log", level: "info", line: "served" });
  if (config === "resize") {
    setTimeout(() => say({ kind: "resized", failure: 0 }), 50);
    setTimeout(() => process.exit(0), 200);
    return;
  }
  if (config === "die") process.exit(3);
  if (config === "fail") say({ kind: "failed", facts: { op: "queue", errno: EIO } });
  process.exit(0);
});
