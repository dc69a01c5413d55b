// Goal: an image of qemu's format is a disk like any other, and stays clean to qemu-img.
// Method: fio writes blocks that carry their checksums, with flushes and discards between them, to
// images of several kinds; each is judged by qemu-img afterwards.

import { raw, story } from "./story.ts";

const VERIFY = [
  "--name=v --rw=randwrite --bsrange=512-128k --size=64M --io_size=96M --iodepth=16",
  "--ioengine=io_uring --direct=1 --fsync=64 --randseed=1 --verify=crc32c --verify_fatal=1",
].join(" ");
const TRIMS = [
  "--name=t --rw=randtrim --bs=64k --offset=96M --size=32M --io_size=64M --iodepth=4",
  "--ioengine=libaio --direct=1 --randseed=2",
].join(" ");

for (const [kind, options] of [
  ["64 KiB clusters", "cluster_size=64k"],
  ["4 KiB clusters, 1-bit refcounts", "cluster_size=4k,refcount_bits=1"],
  ["extended L2", "cluster_size=128k,extended_l2=on"],
  ["version 2", "compat=0.10"],
] as const) {
  story(`fio finds every checksum again on a qcow2: ${kind}`, { timeout: 600 }, async (vm) => {
    const image = `${vm.data}/v.qcow2`;
    await vm.sh`qemu-img create -q -f qcow2 -o ${options} ${image} 128M`;
    const id = await vm.add`-t qcow2 -f ${image} -q 2`;
    vm.patience = 500;
    await vm.sh`fio --filename=/dev/ublkb${id} ${raw(VERIFY)} ${raw(TRIMS)}`;
    await vm.sh`ublk del -n ${id}`;
    await vm.sh`qemu-img check -q ${image}`;
  });
}
