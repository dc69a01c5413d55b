// Goal: writing back dirty pages, and swapping, needs no memory that waits for it.
// Method: all memory but a little is taken away by a ramfs, whose pages neither leave nor need to
// lie together. A file on our device and a process then need more than is left; both come back as
// they were.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

/** MiB that are left, beside the servers and what the kernel keeps back. */
const LEFT = 72;
/** MiB that a process holds; twice as many are written. More than is left: whoever comes first. */
const HELD = 104;
/** What the README advises for swap: buffers that are there before memory is short. */
const SWAP = raw("-d 32 --max-io-buf-bytes 128K");

const SLOW = { timeout: 900 };

const available = async (vm: Vm): Promise<number> =>
  Number(await vm.sh`mawk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo`);

/** Of /proc/vmstat. */
const counted = async (vm: Vm, what: string): Promise<number> =>
  Number(await vm.sh`mawk -v what=${what} '$1 == what { print $2 }' /proc/vmstat`);

story("who is short of memory writes through loop, and swaps on another", SLOW, async (vm) => {
  const noise = `${vm.data}/noise`;
  await vm.sh`cd ${vm.data} && head -c ${HELD}M /dev/urandom > noise && truncate -s 400M l.img &&
    head -c 224M /dev/zero > s.img && sync`; // no holes, as in a file that is swapped to
  const loop = await vm.add`-t loop -f ${vm.data}/l.img ${SWAP}`;
  const swap = await vm.add`-t loop -f ${vm.data}/s.img ${SWAP}`;
  await vm.sh`mkfs.ext4 -q /dev/ublkb${loop} && mkdir -p /mnt/l && mount /dev/ublkb${loop} /mnt/l`;
  await vm.sh`mkswap /dev/ublkb${swap} && swapon /dev/ublkb${swap} && sync`;
  await vm.sh`echo 3 > /proc/sys/vm/drop_caches`;
  const killed = await counted(vm, "oom_kill");
  await vm.sh`mkdir /mnt/taken && mount -t ramfs none /mnt/taken`;
  // What is swapped out meanwhile becomes available: more is taken then.
  for (let more = await available(vm); more > LEFT; more = await available(vm)) {
    await vm.sh`head -c ${more - LEFT}M /dev/zero >> /mnt/taken/zeros`;
  }
  const before = await counted(vm, "pswpout");

  const writer = vm.start`cat ${noise} ${noise} > /mnt/l/file && sync -f /mnt/l`;
  const holder = vm.start`cat ${noise} | tail -c ${HELD}M | cmp - ${noise}`;
  await writer.succeeds();
  await holder.succeeds();
  const out = (await counted(vm, "pswpout")) - before;
  console.log(`pages swapped out: ${out}`);
  expect(out).toBeGreaterThan(250);
  expect(await counted(vm, "oom_kill")).toBe(killed);

  await vm.sh`umount /mnt/taken && rmdir /mnt/taken && echo 3 > /proc/sys/vm/drop_caches`;
  await vm.sh`cat ${noise} ${noise} | cmp - /mnt/l/file`;
  await vm.sh`swapoff -a && umount /mnt/l && ublk del -a`;
});
