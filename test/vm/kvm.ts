// Whether KVM runs our guests here. That /dev/kvm exists does not say so: only a boot does.

import { accessSync, constants } from "node:fs";
import { recall, remember } from "./cache.ts";
import { Guest } from "./guest.ts";
import { note } from "./host.ts";
import type { Kernel } from "./kernel.ts";

/** With KVM a guest is ready in a second or two; where KVM does not work it never is. */
const PROBE_SECONDS = 10;

interface Fact {
  /** This boot of this machine. */
  machine: string;
  works: boolean;
}

/** Tries it once for each boot of this machine. */
export async function kvmWorks(kernel: Kernel): Promise<boolean> {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch {
    return false;
  }
  const machine = (await Bun.file("/proc/sys/kernel/random/boot_id").text()).trim();
  const known = await recall<Fact>("kvm");
  if (known?.machine === machine) return known.works;
  const works = await probe(kernel);
  await remember("kvm", { machine, works } satisfies Fact);
  note(works ? "guests run under KVM" : "KVM is here but runs no guest: emulating");
  return works;
}

async function probe(kernel: Kernel): Promise<boolean> {
  const options = { kvm: true, bootSeconds: PROBE_SECONDS, boots: 1 };
  try {
    const guest = await Guest.boot(kernel, "", options);
    await guest.close();
    return true;
  } catch {
    return false; // the reason does not matter: emulation always works
  }
}
