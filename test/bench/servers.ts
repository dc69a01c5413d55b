/** Starts a contestant's device in the guest, and takes it away again. */

import type { Vm } from "../vm/vm.ts";
import { raw } from "../vm/quote.ts";
import { type Contestant, type Family, type Image, type Section, usesImage } from "./table.ts";

export const KUBLK = "/tmp/kublk";
/** As the daemons' default, so that no contestant has a deeper queue. */
const DEPTH = 128;
const NULL_BLK = `nr_devices=1 gb=250 bs=512 submit_queues=1 hw_queue_depth=${DEPTH}`;

type Daemon = Extract<Family, "ublk" | "kublk">;

export interface Running {
  /** What fio opens. */
  path: string;
  /** The daemon, if there is one. */
  pid?: number;
  stop: () => Promise<unknown>;
}

export async function start(vm: Vm, section: Section, contestant: Contestant): Promise<Running> {
  const { family, options } = contestant;
  const { image } = section;
  const file = usesImage(contestant) ? image?.path : section.file;
  if (image?.fresh) await vm.sh`rm -f ${image.path}; ${raw(makeImage(image))}`;
  if (family === "kernel") return startKernel(vm, options, file);
  if (family === "qemu") return startNbd(vm, options, file);
  const words = addCommand(family, options, file);
  return daemon(vm, family, await vm.sh`${raw(words)}`);
}

export const makeImage = ({ path, options }: Image): string =>
  `qemu-img create -q -f qcow2 ${options.replace("FILE", path)}`;

export function addCommand(family: Daemon, options: string, file?: string): string {
  if (options.startsWith("-t ")) return `ublk add -d ${DEPTH} ${options} -f ${file}`;
  if (family === "kublk") {
    return `${KUBLK} add -d ${DEPTH} ${options} -t ${file ? `loop ${file}` : "null"}`;
  }
  return `ublk add -d ${DEPTH} ${options} -t ${file ? `loop -f ${file}` : "null"}`;
}

/** Both print their devices in ublksrv's manner. */
function daemon(vm: Vm, family: Daemon, printed: string): Running {
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

const NBD = "/dev/nbd0";

async function startNbd(vm: Vm, command: string, file = ""): Promise<Running> {
  await vm.sh`modprobe nbd nbds_max=1 max_part=0; mkdir -p /run/lock; ${raw(command)} -f qcow2 -c ${NBD} ${file}
    until [ "$(cat /sys/block/nbd0/size)" -gt 0 ]; do sleep 0.1; done`;
  // It has let go of the image only when its process is gone.
  const stop = () =>
    vm.sh`qemu-nbd -d ${NBD}; while pidof qemu-nbd > /dev/null; do sleep 0.1; done`;
  return { path: NBD, stop };
}
