// Goal: an image becomes a disk that file systems live on, and goes back to being an image.
// Method: the README's main job, on a file and on a block device; fsck and the kernel's own loop
// device judge what is left.

import { expect } from "bun:test";
import { raw, story } from "./story.ts";

const MAKE = { ext4: "mkfs.ext4 -q -F", xfs: "mkfs.xfs -q -f" } as const;
const CHECK = { ext4: "e2fsck -f -n", xfs: "xfs_repair -n -f" } as const;
const TREE = "/usr/sbin /etc";
const SUMS = "find . -type f -print0 | sort -z | xargs -0 sha256sum";

for (const fs of ["ext4", "xfs"] as const) {
  for (const kind of ["a file", "a block device"] as const) {
    story(`${fs} lives on a disk kept in ${kind}, and is clean afterwards`, {}, async (vm) => {
      const image = kind === "a file" ? `${vm.data}/disk.img` : vm.spare;
      if (kind === "a file") await vm.sh`truncate -s 1G ${image}`;
      const id = await vm.add`-t loop -f ${image}`;
      const disk = `/dev/ublkb${id}`;
      await vm.sh`${raw(MAKE[fs])} ${disk} && mkdir -p /mnt/a && mount ${disk} /mnt/a`;
      await vm.sh`cp -a ${raw(TREE)} /mnt/a`;
      const sums = await vm.sh`cd /mnt/a && ${raw(SUMS)}`;
      expect(sums.split("\n").length).toBeGreaterThan(100);
      await vm.sh`umount /mnt/a`;
      expect(await vm.sh`ublk del -n ${id}`).toBe("");

      await vm.sh`${raw(CHECK[fs])} ${image}`;
      const loop = await vm.sh`modprobe loop && losetup --find --show --read-only ${image}`;
      await vm.sh`mount -o ro ${loop} /mnt/a`;
      expect(await vm.sh`cd /mnt/a && ${raw(SUMS)}`).toBe(sums);
      await vm.sh`umount /mnt/a && losetup -d ${loop}`;
      expect(await vm.sh`ls -A /run/ublk`).toBe("");
    });
  }
}

story("add and list say the same of a device, in text and in JSON", {}, async (vm) => {
  await vm.sh`truncate -s 64M ${vm.data}/state.img`;
  const printed = await vm.sh`ublk add -t loop -f ${vm.data}/state.img`;
  expect(await vm.sh`ublk list -n 0`).toBe(printed);
  expect(await vm.sh`ublk list`).toBe(printed);
  expect(printed).toMatch(/^dev id 0: nr_hw_queues 1 queue_depth 128 block size 512 dev_capacity /);
  const pid = await vm.sh`ublk list -n 0 | grep pid | cut -d' ' -f7`;
  expect(await vm.sh`ublk list -n 0 | grep state | cut -d' ' -f9`).toBe("LIVE");
  const tid = await vm.sh`ublk list -n 0 | grep 'queue 0' | cut -d' ' -f4`;
  await vm.sh`test -d /proc/${pid}/task/${tid}`;

  const [listed] = JSON.parse(await vm.sh`ublk list --json`);
  const added = JSON.parse(await vm.sh`ublk add -t null --size 1G --json`);
  expect(listed).toMatchObject({
    dev_id: 0,
    block_device: "/dev/ublkb0",
    state: "LIVE",
    ublksrv_pid: Number(pid),
    dev_sectors: 131072,
    target: { name: "loop", backing_file: `${vm.data}/state.img`, direct_io: true },
  });
  expect(Object.keys(added)).toEqual(Object.keys(listed));
  expect(added).toMatchObject({ dev_id: 1, target: { name: "null", dev_size: 2 ** 30 } });
  expect(JSON.parse(await vm.sh`ublk list --json -n 1`)).toEqual([added]);
  await vm.sh`ublk del -a`;
  expect(await vm.sh`ublk list`).toBe("");
  expect(await vm.sh`ublk list --json`).toBe("[]");
});
