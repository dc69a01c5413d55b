/** Boots a root file system that is not the laboratory's, on either processor, until it ends. */

import { join } from "node:path";
import type { Architecture } from "../vm/apt.ts";
import { passingDir } from "../vm/cache.ts";
import { host, LabError } from "../vm/host.ts";
import { type Kernel, type NoKernel, prepareKernel } from "../vm/kernel.ts";
import { kernelLines } from "../vm/machines.ts";
import { need, RELEASE_TOOLS } from "../vm/packages.ts";

/** One line of kernels is enough where something else is tried. */
export const LINE = "7.2";
export const isAsked = kernelLines().includes(LINE);
if (isAsked) await need(RELEASE_TOOLS);

/** The kernel to boot, or why there is none. */
export async function kernelToBoot(architecture: Architecture): Promise<Kernel | NoKernel> {
  return isAsked ? prepareKernel(LINE, architecture) : { line: LINE, missing: `is about ${LINE}` };
}

const COMMON = ["quiet", "loglevel=4", "panic=-1", "oops=panic", "random.trust_cpu=on"];
const FROM_DISK = ["root=/dev/nvme0n1", "rootfstype=ext4", "rw", "rootwait", "init=/init"];
const ON_X86 = [
  ...["console=ttyS0", "mitigations=off", "tsc=reliable", "no_timer_check", "lpj=10000000"],
  ...["cryptomgr.notests", "nmi_watchdog=0", "noreplace-smp"],
];

const MACHINES = {
  amd64: {
    command: ["qemu-system-x86_64", "-accel", "tcg,tb-size=512", "-machine", "q35"],
    // For emulation's sake, as in test/vm/qemu.ts.
    cpuFlags: "cx16=off",
    append: ON_X86,
  },
  arm64: {
    command: ["qemu-system-aarch64", "-accel", "tcg,tb-size=512", "-machine", "virt"],
    cpuFlags: "",
    append: ["console=ttyAMA0"],
  },
};

export interface Boot {
  kernel: Kernel;
  /** As QEMU names it. */
  cpu: string;
  /** What is on the first NVMe device: the root file system, unless an initramfs comes first. */
  folder: string;
  /** A cpio archive. */
  initramfs?: string;
  seconds: number;
}

/** What the console said until the guest ended by itself. */
export async function boot(asked: Boot): Promise<string> {
  const { kernel, cpu, folder, initramfs, seconds } = asked;
  const machine = MACHINES[kernel.architecture];
  const dir = await passingDir();
  try {
    const from = initramfs === undefined ? [] : ["-initrd", initramfs];
    const append = [...machine.append, ...COMMON, ...(initramfs === undefined ? FROM_DISK : [])];
    const child = Bun.spawn(
      [
        ...["setpriv", "--pdeathsig", "KILL", ...machine.command],
        ...["-cpu", [cpu, machine.cpuFlags].filter((word) => word !== "").join(",")],
        ...["-nodefaults", "-no-reboot", "-display", "none", "-m", "1536", "-serial", "stdio"],
        ...["-kernel", join(kernel.dir, "vmlinux"), "-append", append.join(" "), ...from],
        ...(await disk(dir, folder)),
      ],
      { stdio: ["ignore", "pipe", "pipe"], timeout: seconds * 1000, killSignal: "SIGKILL" },
    );
    const [console, complaints] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    if ((await child.exited) === 0) return console.replaceAll("\r", "");
    throw new LabError(`${machine.command[0]}: ${child.signalCode}\n${console}\n${complaints}`);
  } finally {
    await host(["rm", "-rf", dir]);
  }
}

/** An NVMe device, because Debian's kernels mount that without an initrd. */
async function disk(dir: string, folder: string): Promise<string[]> {
  const path = join(dir, "root.img");
  const shape = ["-t", "ext4", "-O", "^resize_inode", "-E", "root_owner=0:0,nodiscard"];
  await host(["mke2fs", "-q", "-F", ...shape, "-d", folder, path, "1G"]);
  const drive = `id=root,file=${path},format=raw,if=none,cache=unsafe`;
  return ["-drive", drive, "-device", "nvme,drive=root,serial=root"];
}
