// Goal: file systems live on an image, space comes back from it, and a compressed chain is a disk.
// Method: ext4 and xfs are made, filled, trimmed; what qemu-img makes of the image afterwards is
// compared with what the device read.

import { expect } from "bun:test";
import { raw, story } from "./story.ts";

story("ext4 and xfs on a qcow2, trimmed, give space back", { timeout: 600 }, async (vm) => {
  for (const make of ["mkfs.ext4 -q", "mkfs.xfs -q -f"]) {
    const image = `${vm.data}/fs.qcow2`;
    await vm.sh`rm -f ${image} && qemu-img create -q -f qcow2 ${image} 400M`;
    const id = await vm.add`-t qcow2 -f ${image}`;
    await vm.sh`${raw(make)} /dev/ublkb${id} && mkdir -p /mnt/q && mount /dev/ublkb${id} /mnt/q`;
    await vm.sh`head -c 60M /dev/urandom > /mnt/q/noise && cp --reflink=never /mnt/q/noise /mnt/q/copy && sync`;
    await vm.sh`cmp /mnt/q/noise /mnt/q/copy`;
    const full = Number(await vm.sh`stat -c %b ${image}`);
    await vm.sh`rm /mnt/q/copy && sync && fstrim /mnt/q && sync && umount /mnt/q`;
    const sum = await vm.sh`sha256sum < /dev/ublkb${id}`;
    await vm.sh`ublk del -n ${id}`;
    expect(Number(await vm.sh`stat -c %b ${image}`)).toBeLessThan(full - (40 << 20) / 512);
    await vm.sh`qemu-img check -q ${image}`;
    await vm.sh`qemu-img convert -O raw ${image} ${image}.raw`;
    expect(await vm.sh`sha256sum < ${image}.raw`).toBe(sum);
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
