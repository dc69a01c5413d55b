/** What the numbers were measured on, and with. */

import { cpus, totalmem } from "node:os";
import { resolve } from "node:path";
import { host } from "../vm/host.ts";
import type { Vm } from "../vm/vm.ts";
import type { Kublk } from "./kublk.ts";

export interface Facts {
  vm: Vm;
  kvm: boolean;
  kublk: Kublk | { missing: string };
  options: string[];
  rounds: string;
}

const ROOT = resolve(import.meta.dir, "../..");

export async function about(facts: Facts): Promise<Record<string, string>> {
  const { vm, kublk } = facts;
  const all = cpus();
  const gib = Math.round(totalmem() / 2 ** 30);
  const qemu = (await host(["qemu-system-x86_64", "--version"])).split("\n")[0] ?? "";
  const how = facts.kvm ? "run by QEMU with KVM" : "emulated by QEMU TCG";
  const version = /version (\S+)/.exec(qemu)?.[1] ?? "of unknown version";
  const commit = await host(["git", "-C", ROOT, "describe", "--always", "--dirty"]).catch(() => "");
  return {
    date: new Date().toISOString().slice(0, 16).replace("T", " ") + " UTC",
    "command line": `bun run bench ${facts.options.join(" ")}`.trim(),
    rounds: facts.rounds,
    machine: `${all[0]?.model ?? "unknown CPU"}, ${all.length} CPUs, ${gib} GiB`,
    guest: `${how} ${version}, ${await vm.sh`nproc`} CPUs`,
    kernel: await vm.sh`uname -r`,
    fio: await vm.sh`fio --version`,
    ublk: `${await vm.sh`ublk --version`}, ${commit.trim()}`,
    kublk: "missing" in kublk ? `could not be built: ${kublk.missing}` : kublk.origin,
  };
}
