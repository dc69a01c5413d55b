// Goal: an image of qemu's format is a disk like any other, and stays clean to qemu-img.
// Method: file systems and fio on images of several kinds; servers killed under load; a compressed
// chain against what qemu-img makes of it; each image is judged by qemu-img afterwards.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

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

story("ext4 and xfs on a qcow2, trimmed, give space back", { timeout: 600 }, async (vm) => {
  for (const make of ["mkfs.ext4 -q", "mkfs.xfs -q -f"]) {
    const image = `${vm.data}/fs.qcow2`;
    await vm.sh`rm -f ${image} && qemu-img create -q -f qcow2 ${image} 400M`;
    const id = await vm.add`-t qcow2 -f ${image}`;
    await vm.sh`${raw(make)} /dev/ublkb${id} && mkdir -p /mnt/q && mount /dev/ublkb${id} /mnt/q`;
    await vm.sh`head -c 60M /dev/urandom > /mnt/q/noise && cp /mnt/q/noise /mnt/q/copy && sync`;
    await vm.sh`cmp /mnt/q/noise /mnt/q/copy`;
    const full = Number(await vm.sh`stat -c %b ${image}`);
    await vm.sh`rm /mnt/q/copy && sync && fstrim /mnt/q && sync && umount /mnt/q`;
    const sum = await vm.sh`sha256sum < /dev/ublkb${id}`;
    await vm.sh`ublk del -n ${id}`;
    expect(Number(await vm.sh`stat -c %b ${image}`)).toBeLessThan(full - (40 << 20) / 512);
    await vm.sh`qemu-img check -q ${image}`;
    expect(await vm.sh`qemu-img convert -O raw ${image} /dev/stdout | sha256sum`).toBe(sum);
  }
});

story("a compressed chain reads as qemu-img reads it", { timeout: 300 }, async (vm) => {
  const at = (name: string): string => `${vm.data}/${name}`;
  await vm.sh`mkfs.ext4 -q -d /usr/share ${at("raw")} 200M || mkfs.ext4 -q ${at("raw")} 200M`;
  await vm.sh`qemu-img convert -c -O qcow2 -o compression_type=zstd ${at("raw")} ${at("base.qcow2")}`;
  await vm.sh`cd ${vm.data} && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2`;
  await vm.sh`cd ${vm.data} && qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 260M`;
  const id = await vm.add`-t qcow2 -f ${at("top.qcow2")}`;
  const disk = `/dev/ublkb${id}`;
  await vm.sh`cmp -n 209715200 ${disk} ${at("raw")}`;
  await vm.sh`mkdir -p /mnt/c && mount ${disk} /mnt/c && head -c 3M /dev/urandom > /mnt/c/new`;
  await vm.sh`umount /mnt/c && fsck.ext4 -fn ${disk}`;
  const sum = await vm.sh`sha256sum < ${disk}`;
  await vm.sh`ublk del -n ${id} && qemu-img check -q ${at("top.qcow2")}`;
  expect(
    await vm.sh`qemu-img convert -O raw ${at("top.qcow2")} ${at("r")} && sha256sum < ${at("r")}`,
  ).toBe(sum);
});

const ROUNDS = 10;

/** Writes blocks until it cannot, and notes each one that was acknowledged as durable. */
const WRITER = `
i=0
while :; do
  at=$(( (i * 7919 + ROUND * 31) % 16384 ))
  printf '%08d-%08d-%4080s' ROUND $i x > /tmp/block
  dd if=/tmp/block of=DISK bs=4096 count=1 seek=$at oflag=direct,dsync conv=notrunc status=none || exit
  echo "$at ROUND $i" >> /tmp/log
  i=$((i + 1))
done`;

story(
  "killed ten times under load, an image leaks at worst and keeps what was flushed",
  { timeout: 900 },
  async (vm) => {
    const image = `${vm.data}/k.qcow2`;
    await vm.sh`qemu-img create -q -f qcow2 -o cluster_size=64k ${image} 256M && : > /tmp/log`;
    for (let round = 1; round <= ROUNDS; round++) await killedRound(vm, image, round);
    await vm.sh`ublk check --repair leaks ${image}`;
    await vm.sh`qemu-img check -q ${image}`;
  },
);

async function killedRound(vm: Vm, image: string, round: number): Promise<void> {
  const id = await vm.add`-t qcow2 -f ${image}`;
  const disk = `/dev/ublkb${id}`;
  const script = WRITER.replaceAll("ROUND", String(round)).replaceAll("DISK", disk);
  const writer = vm.start`sh -c ${script}`;
  const load = "--rw=randwrite --bs=8k --iodepth=16 --ioengine=libaio --direct=1 --time_based";
  const fio = vm.start`fio --name=l ${raw(load)} --offset=128M --size=100M --runtime=60 --filename=${disk}`;
  await vm.sh`sleep ${(1 + (round % 4) * 0.5).toFixed(1)}`;
  await vm.sh`kill -KILL $(pgrep -f ${`"id":${id},`})`;
  await vm.becomes(id, "DEAD", 60_000);
  await vm.sh`ublk del -n ${id}`;
  await writer.wait();
  await fio.wait();
  const status = await vm.sh`qemu-img check ${image} > /tmp/check 2>&1; echo $?`;
  expect(["0", "3"], await vm.sh`tail -n 20 /tmp/check`).toContain(status);
  // The last that was acknowledged in each place is there.
  await vm.sh`qemu-img convert -O raw ${image} ${image}.raw`;
  await vm.sh`test -s /tmp/log && tac /tmp/log | awk '!seen[$1]++' | while read at round i; do
      want=$(printf '%08d-%08d' $round $i)
      got=$(dd if=${image}.raw bs=4096 skip=$at count=1 status=none | head -c 17)
      if [ "$want" != "$got" ]; then echo "block $at: $got, not $want"; exit 1; fi
    done`;
}
