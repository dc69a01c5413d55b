// Goal: writing back dirty pages, and swapping, needs no memory that waits for it.
// Method: a guest with so little memory that both go on all the time, through our devices, on files
// of a file system that is itself short of memory; what comes back has to be what was written.

import { expect } from "bun:test";
import { raw, story } from "./story.ts";

/** What is written: no two of its pages are the same; about 100 MB. */
const LINES = 12_000_000;
/** What is held: 170 MB of 320 MiB, of which kernel and servers have half. */
const LINES_HELD = 20_000_000;
const BYTES_HELD = 180_000_000;

/** Where data is copied, each request has a buffer in memory that is locked: 2 MiB a device. */
const SMALL = raw("-d 16 --max-io-buf-bytes 128K");

story(
  "a guest short of memory writes through loop and qcow2, and swaps on both",
  { memory: 320, timeout: 600 },
  async (vm) => {
    await vm.sh`cd ${vm.data} && truncate -s 300M l.img && truncate -s 256M s.img &&
      qemu-img create -q -f qcow2 q.qcow2 300M && qemu-img create -q -f qcow2 s.qcow2 256M`;
    const loop = await vm.add`-t loop -f ${vm.data}/l.img ${SMALL}`;
    const qcow2 = await vm.add`-t qcow2 -f ${vm.data}/q.qcow2 ${SMALL}`;
    const swaps = [
      await vm.add`-t loop -f ${vm.data}/s.img ${SMALL}`,
      await vm.add`-t qcow2 -f ${vm.data}/s.qcow2 ${SMALL}`,
    ];
    for (const [id, where] of [
      [loop, "l"],
      [qcow2, "q"],
    ] as const) {
      await vm.sh`mkfs.ext4 -q /dev/ublkb${id} && mkdir -p /mnt/${where} &&
        mount /dev/ublkb${id} /mnt/${where}`;
    }
    for (const id of swaps) await vm.sh`mkswap /dev/ublkb${id} && swapon -p 1 /dev/ublkb${id}`;

    // More than the memory in dirty pages, and a process that holds more than is left, at once.
    const writers = ["l", "q"].map(
      (where) => vm.start`seq 1 ${LINES} > /mnt/${where}/file && sync -f /mnt/${where}`,
    );
    const right = await vm.sh`seq 1 ${LINES} | md5sum`;
    const rightHeld = await vm.sh`seq 1 ${LINES_HELD} | md5sum`;
    const holder = vm.start`seq 1 ${LINES_HELD} | tail -c ${BYTES_HELD} | { sleep 8; md5sum; }`;
    for (const writer of writers) await writer.succeeds();
    expect((await holder.wait()).stdout.trim()).toBe(rightHeld);
    await vm.sh`echo 3 > /proc/sys/vm/drop_caches`;
    for (const where of ["l", "q"]) {
      expect(await vm.sh`md5sum < /mnt/${where}/file`).toBe(right);
    }
    const out = Number(await vm.sh`grep '^pswpout ' /proc/vmstat | cut -d ' ' -f 2`);
    console.log(`pages swapped out: ${out}`);
    expect(out).toBeGreaterThan(5_000);
    expect(await vm.sh`dmesg | grep -i 'out of memory\\|oom-kill' || true`).toBe("");

    await vm.sh`swapoff -a && umount /mnt/l /mnt/q && ublk del -a`;
    await vm.sh`cd ${vm.data} && qemu-img check -q q.qcow2 && qemu-img check -q s.qcow2`;
  },
);
