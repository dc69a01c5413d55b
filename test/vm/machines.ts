// The machines stories run on: which kernels, prepared so that a story only has to boot.

import { existsSync } from "node:fs";
import { basename, resolve } from "node:path";
import { FEATURES, type FeatureFlag } from "../../ffi/ublk_cmd.ts";
import { keyOf, recall, remember } from "./cache.ts";
import { GuestVm } from "./guest_vm.ts";
import { LabError, note } from "./host.ts";
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
  /** The driver's feature bits; undefined while there is no program that could ask. */
  features: () => Promise<bigint | undefined>;
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

interface GuestMachine extends Machine {
  open: (memory?: number) => Promise<GuestVm>;
}

export async function guestMachine(kernel: Kernel): Promise<GuestMachine> {
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
async function features(kernel: Kernel, open: () => Promise<Vm>): Promise<bigint | undefined> {
  if (!existsSync(program)) return undefined;
  const key = keyOf(basename(kernel.dir), await programImage(program));
  const fact = `features-${kernel.line}`;
  const known = await recall<{ key: string; bits: string }>(fact);
  if (known?.key === key) return BigInt(known.bits);
  note(`asking ${kernel.release} for its features`);
  const bits = await ask(open);
  await remember(fact, { key, bits: String(bits) });
  return bits;
}

async function ask(open: () => Promise<Vm>): Promise<bigint> {
  const vm = await open();
  try {
    const printed = await vm.sh`ublk features`;
    const bits = /features: (0x[0-9a-f]+)/.exec(printed)?.[1];
    if (bits === undefined) throw new LabError(`ublk features printed no bits: ${printed}`);
    return BigInt(bits);
  } finally {
    await vm.close();
  }
}

/** Those of the wanted features, named as in the kernel's header, that are not among the bits. */
export function lacking(bits: bigint | undefined, wanted: readonly FeatureFlag[]): FeatureFlag[] {
  const bit = (name: string) => 1n << BigInt(FEATURES.findIndex(({ flag }) => flag === name));
  return bits === undefined ? [] : wanted.filter((name) => (bits & bit(name)) === 0n);
}
