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
import { ReusedGuest } from "./reuse.ts";
import { programImage, rootImage, scratchImage } from "./rootfs.ts";
import { buildUml } from "./uml.ts";
import { UmlVm } from "./uml_vm.ts";
import { DEFAULT_KERNELS, kernelList } from "./versions.ts";
import type { Vm } from "./vm.ts";

/** Before a line of kernels: User-mode Linux, built from Debian's source of that line. */
const NATIVE = "native-";
const NATIVE_LANES = 11;

export const program = resolve(import.meta.dir, "../../dist/ublk");

export interface Machine {
  kernel: string;
  isHost: boolean;
  /** One that nobody has used. */
  open: (memory?: number) => Promise<Vm>;
  /** One that looks as if nobody had. */
  lend: () => Promise<Lent>;
  /** The driver's feature bits; undefined while there is no program that could ask. */
  features: () => Promise<bigint | undefined>;
}

export interface Lent {
  vm: Vm;
  /** `clean`: its use went well, and left nothing behind that a check can see. */
  giveBack: (clean: boolean) => Promise<void>;
}

export const kernelLines = (): string[] =>
  kernelList(process.env["UBLK_KERNELS"] || DEFAULT_KERNELS);

/** Downloads and builds what the machines under test need. */
export async function machines(): Promise<(Machine | NoKernel)[]> {
  if (process.env["UBLK_LAB"] === "host") return [hostMachine()];
  const all: (Machine | NoKernel)[] = [];
  for (const line of kernelLines()) all.push(await machineOf(line));
  return all;
}

/** Of a line of kernels, such as "7.2", or "native-7.2". */
export async function machineOf(line: string): Promise<Machine | NoKernel> {
  if (line.startsWith(NATIVE)) return nativeMachine(line);
  const kernel = await prepareKernel(line);
  return "missing" in kernel ? kernel : guestMachine(kernel);
}

interface GuestMachine extends Machine {
  open: (memory?: number) => Promise<GuestVm>;
}

export async function guestMachine(kernel: Kernel): Promise<GuestMachine> {
  await rootImage(kernel);
  await scratchImage();
  const kvm = await kvmWorks(kernel);
  const open = (memory = 2048) => GuestVm.boot(kernel, program, { memory, kvm });
  const reused = new ReusedGuest(open);
  const lend = () => reused.lend();
  return { kernel: kernel.line, isHost: false, open, lend, features: () => features(kernel, lend) };
}

/** User-mode Linux, for what takes long; a new one for each story, which costs it nothing. */
async function nativeMachine(line: string): Promise<Machine> {
  const uml = await buildUml(line.slice(NATIVE.length));
  const open = () => UmlVm.boot({ uml: uml.program, line, program, lanes: NATIVE_LANES, cpus: 2 });
  const lend = () => lent(open());
  return { kernel: line, isHost: false, open, lend, features: () => ask(lend) };
}

async function lent(vm: Promise<Vm>): Promise<Lent> {
  const one = await vm;
  return { vm: one, giveBack: () => one.close() };
}

function hostMachine(): Machine {
  const open = () => HostVm.open(program);
  const lend = () => lent(open());
  return { kernel: "host", isHost: true, open, lend, features: () => ask(lend) };
}

/** Asked once for each kernel and each build of the program: it costs a boot. */
async function features(kernel: Kernel, lend: Machine["lend"]): Promise<bigint | undefined> {
  if (!existsSync(program)) return undefined;
  const key = keyOf(basename(kernel.dir), await programImage(program));
  const fact = `features-${kernel.line}`;
  const known = await recall<{ key: string; bits: string }>(fact);
  if (known?.key === key) return BigInt(known.bits);
  note(`asking ${kernel.release} for its features`);
  const bits = await ask(lend);
  await remember(fact, { key, bits: String(bits) });
  return bits;
}

async function ask(lend: Machine["lend"]): Promise<bigint> {
  const { vm, giveBack } = await lend();
  try {
    const printed = await vm.sh`ublk features`;
    const bits = /features: (0x[0-9a-f]+)/.exec(printed)?.[1];
    if (bits === undefined) throw new LabError(`ublk features printed no bits: ${printed}`);
    return BigInt(bits);
  } finally {
    await giveBack(true);
  }
}

/** Those of the wanted features, named as in the kernel's header, that are not among the bits. */
export function lacking(bits: bigint | undefined, wanted: readonly FeatureFlag[]): FeatureFlag[] {
  const bit = (name: string) => 1n << BigInt(FEATURES.findIndex(({ flag }) => flag === name));
  return bits === undefined ? [] : wanted.filter((name) => (bits & bit(name)) === 0n);
}
