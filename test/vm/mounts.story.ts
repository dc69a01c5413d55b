// Goal: the file system under a device and those on it are unmounted in any order.
// Method: both orders, devices added from other mount namespaces and while others are mounted;
// then nothing holds the backing file system any more.

import { expect } from "bun:test";
import { story, type Vm } from "./story.ts";

/** A file system that holds an image, mounted; the image is served, and has one as well. */
async function stack(vm: Vm, from = ""): Promise<number> {
  await vm.sh`mkdir -p /mnt/under /mnt/on && mkfs.ext4 -qF ${vm.spare} &&
    mount ${vm.spare} /mnt/under && truncate -s 64M /mnt/under/a.img`;
  const [word = "ublk", ...words] = `${from} ublk`.trim().split(" ");
  const said = await vm.sh`${word} ${words} add -t loop -f /mnt/under/a.img`;
  const id = Number(/^dev id (\d+)/m.exec(said)![1]);
  await vm.sh`mkfs.ext4 -q /dev/ublkb${id} && mount /dev/ublkb${id} /mnt/on && date > /mnt/on/file`;
  return id;
}

/** It is whole, and nobody holds it: wipefs wants it for itself alone. */
const isFree = (vm: Vm): Promise<string> => vm.sh`fsck.ext4 -fn ${vm.spare}
  for try in $(seq 50); do wipefs -qa ${vm.spare} && exit 0; sleep 0.1; done; exit 1`;

story("what is on a device, and what is under it, unmount in any order", {}, async (vm) => {
  let id = await stack(vm);
  await vm.sh`umount /mnt/on && ublk del -n ${id} && umount /mnt/under`;
  await isFree(vm);

  // The other way round: the daemon has the image open in a place of its own.
  id = await stack(vm, "unshare -m");
  await vm.sh`umount /mnt/under && dd if=/dev/urandom of=/mnt/on/more bs=1M count=20 status=none`;
  await vm.sh`sync -f /mnt/on && umount /mnt/on && fsck.ext4 -fn /dev/ublkb${id}`;
  await vm.sh`ublk del -n ${id}`;
  await isFree(vm);

  // A daemon that starts while others' devices are mounted keeps none of them busy.
  id = await stack(vm);
  const other = await vm.add`-t null --size 1G`;
  await vm.sh`umount /mnt/on && ublk del -n ${id} && umount /mnt/under`;
  await isFree(vm);
  await vm.sh`ublk del -n ${other}`;
});

story("a mount in somebody else's namespace holds a device as long as he lives", {}, async (vm) => {
  const id = await stack(vm);
  await vm.sh`umount /mnt/on`;
  const client = vm.start`exec unshare -m sh -c ${`mount /dev/ublkb${id} /mnt/on &&
    echo 1 > /mnt/on/file && touch /tmp/there && exec sleep 600`}`;
  await vm.sh`until test -e /tmp/there; do sleep 0.1; done; umount /mnt/under`;
  expect(await vm.sh`findmnt -n /mnt/on || true`).toBe("");
  const pid = await vm.sh`pgrep -f ${"^sleep 600"}`;
  await vm.sh`kill -9 ${pid}`;
  await client.wait();
  await vm.sh`until fsck.ext4 -fn /dev/ublkb${id}; do sleep 0.2; done; ublk del -n ${id}`;
  await isFree(vm);
});
