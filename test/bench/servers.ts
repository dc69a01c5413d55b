/** Starts a contestant's device in the guest, and takes it away again. */

import type { Vm } from "../vm/vm.ts";
import { raw } from "../vm/quote.ts";
import type { Contestant, Section } from "./table.ts";

export const KUBLK = "/tmp/kublk";
/** As the daemons' default, so that no contestant has a deeper queue. */
const DEPTH = 128;
const NULL_BLK = `nr_devices=1 gb=250 bs=512 submit_queues=1 hw_queue_depth=${DEPTH}`;

export interface Running {
  /** What fio opens. */
  path: string;
  /** The daemon, if there is one. */
  pid?: number;
  stop: () => Promise<unknown>;
}

export async function start(vm: Vm, { file }: Section, contestant: Contestant): Promise<Running> {
  const { family, options } = contestant;
  if (family === "kernel") return startKernel(vm, options, file);
  const words = addCommand(family, options, file);
  return daemon(vm, family, await vm.sh`${raw(words)}`);
}

export function addCommand(family: "ublk" | "kublk", options: string, file?: string): string {
  if (family === "kublk") {
    return `${KUBLK} add -d ${DEPTH} ${options} -t ${file ? `loop ${file}` : "null"}`;
  }
  return `ublk add -d ${DEPTH} ${options} -t ${file ? `loop -f ${file}` : "null"}`;
}

/** Both print their devices in ublksrv's manner. */
function daemon(vm: Vm, family: "ublk" | "kublk", printed: string): Running {
  const id = Number(/dev id (\d+):/.exec(printed)?.[1]);
  const [pid] = pidsIn(printed);
  if (Number.isNaN(id) || pid === undefined) throw new Error(`${family} add printed ${printed}`);
  const del = `${family === "kublk" ? KUBLK : "ublk"} del -n ${id}`;
  return { path: `/dev/ublkb${id}`, pid, stop: () => vm.sh`${raw(del)}` };
}

export const pidsIn = (printed: string): number[] =>
  [...printed.matchAll(/daemon pid (\d+)/g)].map(([, pid]) => Number(pid));

async function startKernel(vm: Vm, kind: string, file?: string): Promise<Running> {
  if (kind === "null_blk") {
    await vm.sh`modprobe null_blk ${raw(NULL_BLK)}`;
    return { path: "/dev/nullb0", stop: () => vm.sh`rmmod null_blk` };
  }
  if (file === undefined) throw new Error(`${kind} has no file`);
  if (!kind.startsWith("losetup")) return { path: file, stop: () => Promise.resolve() };
  const path = await vm.sh`${raw(kind)} --find --show ${file}`;
  return { path, stop: () => vm.sh`losetup --detach ${path}` };
}
