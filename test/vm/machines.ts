// The machines stories run on: which kernels, prepared so that a story only has to boot.

import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { cacheDir, keyOf } from "./cache.ts";
import { GuestVm } from "./guest_vm.ts";
import { note } from "./host.ts";
import { HostVm } from "./host_vm.ts";
import { type Kernel, type NoKernel, prepareKernel } from "./kernel.ts";
import { kvmWorks } from "./kvm.ts";
import { programImage, rootImage, scratchImage } from "./rootfs.ts";
import type { Vm } from "./vm.ts";

/** The newest that Debian backports, and the one of Debian stable. */
const DEFAULT_KERNELS = "7.2,6.12";

export const program = resolve(import.meta.dir, "../../dist/ublk");

export interface Machine {
  kernel: string;
  isHost: boolean;
  open: (memory?: number) => Promise<Vm>;
  /** What `ublk features` prints there. */
  features: () => Promise<string>;
}

export function kernelLines(): string[] {
  const lines = (process.env["UBLK_KERNELS"] || DEFAULT_KERNELS).split(",");
  return lines.map((line) => line.trim()).filter((line) => line !== "");
}

/** Downloads and builds what the machines under test need. */
export async function machines(): Promise<(Machine | NoKernel)[]> {
  if (process.env["UBLK_LAB"] === "host") return [hostMachine()];
  const all: (Machine | NoKernel)[] = [];
  for (const line of kernelLines()) {
    const kernel = await prepareKernel(line);
    all.push("missing" in kernel ? kernel : await guestMachine(kernel));
  }
  return all;
}

export async function guestMachine(kernel: Kernel): Promise<Machine> {
  await rootImage(kernel);
  await scratchImage();
  const kvm = await kvmWorks(kernel);
  const open = (memory = 2048) => GuestVm.boot(kernel, program, { memory, kvm });
  return { kernel: kernel.line, isHost: false, open, features: () => features(kernel, open) };
}

function hostMachine(): Machine {
  const open = () => HostVm.open(program);
  return { kernel: "host", isHost: true, open, features: () => ask(open) };
}

/** Asked once for each kernel and each build of the program: it costs a boot. */
async function features(kernel: Kernel, open: () => Promise<Vm>): Promise<string> {
  if (!existsSync(program)) return "";
  const key = keyOf(basename(kernel.dir), await programImage(program));
  const file = Bun.file(join(cacheDir, `features-${kernel.line}.json`));
  const known = (await file.exists()) ? ((await file.json()) as Record<string, string>) : {};
  if (known[key] !== undefined) return known[key];
  note(`asking ${kernel.release} for its features`);
  const text = await ask(open);
  await Bun.write(file, JSON.stringify({ [key]: text }));
  return text;
}

async function ask(open: () => Promise<Vm>): Promise<string> {
  const vm = await open();
  try {
    return await vm.sh`ublk features`;
  } finally {
    await vm.close();
  }
}
