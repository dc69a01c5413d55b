/** What differs between the processors that we run on. */

import { arch } from "node:os";

/** `SYS_`: calls that C libraries learnt late. By number they need no newer one than Bun does. */
export const MACHINES = {
  x64: {
    O_DIRECT: 0o40000,
    O_NOFOLLOW: 0o400000,
    SYS_gettid: 186,
    SYS_sched_setscheduler: 144,
    SYS_memfd_create: 319,
    SYS_statx: 332,
    SYS_pidfd_send_signal: 424,
    SYS_pidfd_open: 434,
  },
  arm64: {
    O_DIRECT: 0o200000,
    O_NOFOLLOW: 0o100000,
    SYS_gettid: 178,
    SYS_sched_setscheduler: 119,
    SYS_memfd_create: 279,
    SYS_statx: 291,
    SYS_pidfd_send_signal: 424,
    SYS_pidfd_open: 434,
  },
};

/** Not by `process.arch`: in an executable that is the processor of whoever built it. */
export const machine = MACHINES[arch() === "arm64" ? "arm64" : "x64"];
