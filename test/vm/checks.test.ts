// The checks after a story recognise what is wrong, and only that.

import { expect, test } from "bun:test";
import { faults, splat } from "./checks.ts";

const CLEAN = { devices: [], daemons: [], stuck: [], log: "[    1.0] all is well\n" };

test.each([
  "[    2.1] WARNING: CPU: 0 PID: 12 at drivers/block/ublk_drv.c:42 ublk_x+0x1/0x2",
  "[    2.1] WARNING: drivers/block/ublk_drv.c:42 at ublk_x+0x1/0x2, CPU#0: fio/12",
  "[    2.1] BUG: kernel NULL pointer dereference, address: 0000000000000008",
  "[    2.1] Oops: int3: 0000 [#1] SMP NOPTI",
  "[    2.1] Oops: general protection fault, probably for non-canonical address",
  "[    2.1] INFO: task fio:12 blocked for more than 120 seconds.",
  "[    2.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
  "[    2.1] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [ublk:12]",
  "[    2.1] ublk[12]: segfault at 0 ip 000000000040 sp 00007ff error 4 in ublk",
])("the kernel's log says that something is wrong: %s", (line) => {
  expect(splat(`[    1.0] all is well\n${line}\nmore`)).toBe(`${line}\nmore`);
});

test.each([
  "[    0.0] Spectre V2 : Vulnerable",
  "[    2.1] ublk_drv: loading out-of-tree debug info",
  "[    2.1] EXT4-fs (vdb): mounted filesystem r/w with ordered data mode. Quota mode: none.",
  "[    2.1] Buffer I/O error on dev ublkb0, logical block 0, async page read",
])("the kernel's log says nothing bad: %s", (line) => {
  expect(splat(line)).toBeUndefined();
});

test("only what is new since the beginning is a fault", () => {
  const old = "[    1.0] WARNING: an old one\n";
  const before = { ...CLEAN, devices: ["/dev/ublkc7"], log: old };
  expect(faults(before, { ...before, log: `${old}[    2.0] fine\n` })).toEqual([]);
  const now = { ...before, devices: ["/dev/ublkc7", "/dev/ublkc8"], log: `${old}[    3.0] BUG: x` };
  expect(faults(before, now)).toEqual([
    "devices are left: /dev/ublkc8",
    "the kernel complains:\n[    3.0] BUG: x",
  ]);
});
