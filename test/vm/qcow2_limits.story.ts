// Goal: an image that finds no space fails the writes that need it and stays clean: on a block
// device, and on a file system that fills up. One of 1 TiB needs no memory to speak of.
// Method: disks larger than what is under them are written until that fails, then read, written
// where they have clusters, and judged by qemu-img.

import { expect } from "bun:test";
import { join } from "node:path";
import { raw, story, type Vm } from "./story.ts";

const MIB = 1 << 20;
const RESIDENT_MAX_MIB = 96;

const VERIFY =
  "--name=v --rw=randwrite --bs=16k --size=16M --iodepth=8 --ioengine=libaio --direct=1 --verify=crc32c";

/** Writes blocks of 1 MiB until that fails; answers how many bytes it could write. */
async function fill(vm: Vm, disk: string): Promise<number> {
  const { status, stderr } = await vm.run`
    tr '\0' 'F' < /dev/zero | dd of=${disk} bs=1M iflag=fullblock oflag=direct seek=32`;
  expect(status).not.toBe(0);
  expect(stderr).toContain("No space left on device");
  return Number(/(\d+) bytes/.exec(stderr)?.[1]);
}

/** The device lives, what is written stays there, and clusters that exist can be written to. */
async function goesOn(vm: Vm, id: number, disk: string): Promise<void> {
  await vm.becomes(id, "LIVE");
  await vm.sh`set -e; fio --filename=${disk} ${raw(VERIFY)} --verify_only=1
    test "$(dd if=${disk} bs=1M skip=33 count=1 iflag=direct status=none | tr -d F | wc -c)" = 0
    dd if=/dev/zero of=${disk} bs=64k count=1 seek=528 oflag=direct,dsync status=none`;
}

story("an image on a block device ends where the device ends", {}, async (vm) => {
  // What stood there before must not be seen.
  await vm.sh`tr '\0' 'X' < /dev/zero | head -c 64M > ${vm.data}/under`;
  const loop = await vm.sh`modprobe loop; losetup --find --show ${vm.data}/under`;
  await vm.sh`qemu-img create -q -f qcow2 ${loop} 256M`;
  const id = await vm.add`-t qcow2 -f ${loop}`;
  const disk = `/dev/ublkb${id}`;
  await vm.sh`fio --filename=${disk} ${raw(VERIFY)}`;
  const written = await fill(vm, disk);
  expect(written).toBeGreaterThan(40 * MIB);
  expect(written).toBeLessThan(48 * MIB);
  await goesOn(vm, id, disk);
  expect(
    await vm.sh`dd if=${disk} bs=4k skip=7000 count=200 status=none | tr -d '\0' | wc -c`,
  ).toBe("0");
  await vm.sh`blkdiscard -o 64M -l 16M ${disk} && sync ${disk}`;
  await vm.sh`dd if=/dev/zero of=${disk} bs=1M count=8 seek=200 oflag=direct status=none`;
  await vm.sh`ublk del -n ${id} && qemu-img check -q ${loop} && losetup -d ${loop}`;
});

story("an image on a full file system waits for space", {}, async (vm) => {
  const folder = "/mnt/small";
  await vm.sh`set -e; modprobe loop; truncate -s 128M ${vm.data}/small && mkfs.ext4 -q ${vm.data}/small
    mkdir -p ${folder} && mount -o loop ${vm.data}/small ${folder}
    qemu-img create -q -f qcow2 ${folder}/a.qcow2 512M; fallocate -l 20M ${folder}/ballast`;
  const id = await vm.add`-t qcow2 -f ${folder}/a.qcow2`;
  const disk = `/dev/ublkb${id}`;
  await vm.sh`fio --filename=${disk} ${raw(VERIFY)}`;
  expect(await fill(vm, disk)).toBeGreaterThan(20 * MIB);
  await goesOn(vm, id, disk);
  await vm.sh`set -e; rm ${folder}/ballast && sync -f ${folder}
    dd if=/dev/zero of=${disk} bs=1M count=8 seek=400 oflag=direct,dsync status=none`;
  await vm.sh`ublk del -n ${id} && qemu-img check -q ${folder}/a.qcow2 && umount ${folder}`;
});

story("a disk of 1 TiB is read all over in little memory", {}, async (vm) => {
  const huge = join(import.meta.dir, "../targets/qcow2/huge.ts");
  const { outputs } = await Bun.build({ entrypoints: [huge], target: "bun" });
  await vm.write("/tmp/huge.js", `${await outputs[0]!.text()}\nmakeHugeImage(process.argv[2]);`);
  const image = `${vm.data}/huge.qcow2`;
  await vm.sh`BUN_BE_BUN=1 ublk run /tmp/huge.js ${image}`;
  const id = await vm.add`-t qcow2 -f ${image}`;
  await vm.sh`fio --name=r --filename=/dev/ublkb${id} --rw=randread --bs=4k --iodepth=32 \
    --ioengine=libaio --direct=1 --norandommap --number_ios=20000 --runtime=20`;
  const status = await vm.sh`cat /proc/${await vm.daemonPid(id)}/status`;
  const peak = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
  console.log(`20,000 reads all over 1 TiB: ${peak.toFixed(1)} MiB resident at the most`);
  expect(peak).toBeLessThan(RESIDENT_MAX_MIB);
  await vm.sh`ublk del -n ${id}`;
});
