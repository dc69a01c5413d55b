/**
 * Builds User-mode Linux, a kernel that runs as a program, from Debian's source of the kernel: what
 * runs in it runs at the processor's own speed, on a machine without KVM too.
 */

import { basename, join } from "node:path";
import { cached, keyOf, prune } from "./cache.ts";
import { host, hostShown, note } from "./host.ts";
import { need } from "./packages.ts";
import { kernelSource, unpackSource, version } from "./sources.ts";

const TOOLS = ["gcc", "libc6-dev", "make", "bison", "flex", "bc", "xz-utils"];

/** Everything else is off. There are no modules. */
const CONFIG = [
  ...["64BIT", "MULTIUSER", "PRINTK", "STDERR_CONSOLE", "SSL", "NULL_CHAN", "BINFMT_ELF"],
  ...["BINFMT_SCRIPT", "HOSTFS", "PROC_FS", "PROC_PAGE_MONITOR", "SYSFS", "TMPFS", "SHMEM"],
  ...["DEVTMPFS", "BLOCK", "BLK_DEV", "BLK_DEV_UBLK", "BLK_DEV_NULL_BLK", "BLK_DEV_LOOP"],
  ...["IO_URING", "FUTEX", "EPOLL", "EVENTFD", "SIGNALFD", "TIMERFD", "AIO", "NET", "UNIX"],
  ...[
    "INOTIFY_USER",
    "MEMFD_CREATE",
    "MEMBARRIER",
    "RSEQ",
    "ADVISE_SYSCALLS",
    "FILE_LOCKING",
    "SYSVIPC",
  ],
  ...["POSIX_TIMERS", "HIGH_RES_TIMERS", "NO_HZ_IDLE", "SMP", "PROC_CHILDREN", "MAGIC_SYSRQ"],
];
export interface Uml {
  program: string;
  /** What it was built from, for the report. */
  origin: string;
}

export async function buildUml(line: string): Promise<Uml> {
  const { tree } = await kernelSource(line);
  const dir = await cached(`uml-${keyOf(basename(tree), ...CONFIG)}`, async (into) => {
    await need(TOOLS);
    note("building User-mode Linux from Debian's kernel source: some five minutes");
    await compile(tree, into);
  });
  await prune("uml-", 2);
  return { program: join(dir, "linux"), origin: await version(tree) };
}

async function compile(tree: string, into: string): Promise<void> {
  const source = join(into, "source");
  await host(["mkdir", source]);
  await unpackSource(tree, source, []);
  await Bun.write(join(into, "config"), CONFIG.map((name) => `CONFIG_${name}=y\n`).join(""));
  const make = ["make", "-s", "-C", source, "ARCH=um"];
  await hostShown([...make, "allnoconfig", `KCONFIG_ALLCONFIG=${join(into, "config")}`]);
  await hostShown([...make, `-j${navigator.hardwareConcurrency}`, "linux"]);
  await host(["strip", "-o", join(into, "linux"), join(source, "linux")]);
  await host(["rm", "-rf", source]);
}
