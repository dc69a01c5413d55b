// Goal: what cannot work is refused with a line that says why, and leaves nothing behind.
// Method: every mistake on a real kernel; after each, no device, no process, no file.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

async function refused(vm: Vm, command: string, status: number, line: RegExp): Promise<void> {
  const result = await vm.run`${raw(command)}`;
  expect(result.stderr, command).toMatch(line);
  expect(result.stderr.trim().split("\n").length, result.stderr).toBeLessThanOrEqual(2);
  expect({ command, status: result.status, out: result.stdout }).toEqual({
    command,
    status,
    out: "",
  });
  expect(await vm.sh`ls -A /run/ublk 2>/dev/null || true; ls /dev | grep ublk[bc] || true`).toBe(
    "",
  );
  expect(await vm.sh`pgrep -x ublk || true`).toBe("");
}

story("a file that is no disk is refused before there is a device", {}, async (vm) => {
  await vm.sh`cd ${vm.data} && : > empty && truncate -s 1000 odd && mkfifo pipe && mkdir dir`;
  await vm.sh`truncate -s 1M ${vm.data}/good`;
  const file = (name: string): string => `ublk add -t loop -f ${vm.data}/${name}`;
  await refused(vm, file("missing"), 1, /open \S+missing: ENOENT/);
  await refused(vm, file("dir"), 1, /is a directory/);
  await refused(vm, file("pipe"), 1, /is no disk/);
  await refused(vm, file("empty"), 1, /is empty[^]*truncate -s/);
  await refused(vm, file("odd"), 1, /1000 bytes is no multiple of the block size 512/);
  await refused(vm, `${file("good")} -o 2048`, 1, /no disk begins at offset 1048576/);
  await refused(vm, `${file("good")} -o 1.5x`, 2, /--offset '1.5x'/);
  await refused(vm, `timeout 60 ublk add -t qcow2 -f ${vm.data}/pipe`, 1, /is no disk/);
  await vm.sh`mkdir -p /run/ublk && mount -t tmpfs -o size=4k,mode=700 tmpfs /run/ublk`;
  await refused(vm, "ublk add -t null", 1, /write \/run\/ublk\/0\.\w+: ENOSPC.*\n.* is kept there/);
  await vm.sh`mount -o remount,ro /run/ublk`;
  await refused(vm, "ublk add -t null", 1, /write \/run\/ublk\/0\.\w+: EROFS.*\n.* is kept there/);
  await vm.sh`umount /run/ublk`;
});

story("a file that is in use is refused by whoever comes second", {}, async (vm) => {
  const image = `${vm.data}/shared.img`;
  await vm.sh`truncate -s 16M ${image}`;
  const id = await vm.add`-t loop -f ${image}`;
  const again = await vm.run`ublk add -t loop -f ${image}`;
  expect(again.stderr).toMatch(/is served already, as device 0\n\s+ublk del -n 0/);
  expect(again.status).toBe(1);
  const qemu = await vm.run`qemu-io -f raw -c 'write 0 512' ${image}`;
  expect(qemu.stderr + qemu.stdout).toContain("lock");
  await vm.sh`ublk del -n ${id}`;

  const first = await vm.add`-t loop -f ${image} --read-only`;
  const second = await vm.add`-t loop -f ${image} --read-only`;
  expect((await vm.run`ublk add -t loop -f ${image}`).status).toBe(1);
  await vm.sh`ublk del -n ${first} && ublk del -n ${second}`;

  await vm.sh`mkfs.ext4 -q ${vm.spare} && mkdir -p /mnt/b && mount ${vm.spare} /mnt/b`;
  const mounted = `ublk add -t loop -f ${vm.spare}`;
  await refused(vm, mounted, 1, /EBUSY[^]*mounted or otherwise in use/);
  await vm.sh`umount /mnt/b`;
});

story("words that cannot be meant are usage errors", {}, async (vm) => {
  for (const [command, line] of [
    ["ublk frobnicate", /no verb 'frobnicate'/],
    ["ublk add", /-t TYPE/],
    ["ublk add -t tape", /'tape'/],
    ["ublk add -t loop", /-f FILE/],
    ["ublk add -t null --bogus", /unknown option '--bogus'/],
    ["ublk add -t null -q", /argument missing/],
    ["ublk add -t null -q 0", /--queues '0'/],
    ["ublk add -t null -q 4097", /from 1 to 4096/],
    ["ublk add -t null -d 4097", /from 1 to 4096/],
    ["ublk add -t null stray", /unexpected word 'stray'/],
    ["ublk del", /-n ID/],
    ["ublk del -n", /argument missing/],
    ["ublk list --frob", /unknown option/],
  ] as const) {
    await refused(vm, command, 2, line);
  }
  const bare = await vm.run`ublk`;
  expect(bare.status).toBe(2);
  expect(bare.stderr).toMatch(/ublk add -t qcow2[^]*ublk help VERB/);
  await refused(vm, "ublk del -n 7", 1, /UBLK_U_CMD_\S+ device 7: ENODEV[^]*no ublk device 7/);
  await refused(vm, "ublk list -n 7", 1, /no ublk device 7/);
});

story(
  "an id that is taken, a driver that is missing and a user who may not are told",
  {},
  async (vm) => {
    const id = await vm.add`-t null -n 5 --size 1G`;
    expect(id).toBe(5);
    const taken = await vm.run`ublk add -t null -n 5`;
    expect(taken.stderr).toMatch(/UBLK_U_CMD_ADD_DEV device 5: EEXIST[^]*choose another with -n/);
    expect(taken.status).toBe(1);
    const user = await vm.run`setpriv --reuid 1000 --clear-groups ublk list`;
    expect(user.stderr).toMatch(/EACCES[^]*run as root/);
    expect(user.status).toBe(1);
    await vm.sh`ublk del -n 5`;
    await vm.sh`sysctl -q kernel.io_uring_disabled=2`;
    await refused(vm, "ublk add -t null", 1, /io_uring_setup: EPERM[^]*kernel.io_uring_disabled/);
    await vm.sh`sysctl -q kernel.io_uring_disabled=0 && rmmod ublk_drv`;
    await refused(vm, "ublk add -t null", 1, /ublk-control: ENOENT[^]*modprobe ublk_drv/);
    await refused(vm, "ublk features", 1, /modprobe ublk_drv/);
  },
);

story("fewer queues than asked for are reported", {}, async (vm) => {
  const result = await vm.run`ublk add -t null --size 1G -q 64`;
  expect(result.stderr).toMatch(/note: 64 queues were asked for, the driver gave 2/);
  expect(result.stdout).toContain("nr_hw_queues 2");
  expect(result.status).toBe(0);
  const unheard = await vm.run`ublk list > /dev/full`;
  expect(unheard.stderr).toMatch(/^ublk list: write standard output: ENOSPC .*\n?$/);
  expect(unheard.status).toBe(1);
  await vm.sh`ublk del -n 0`;
  const added = await vm.run`ublk add -t null --size 1G > /dev/full`;
  expect(added.stderr).toMatch(/^ublk add: write standard output: ENOSPC .*\n.* ublk list -n 0/);
  expect(added.status).toBe(1);
  await vm.sh`ublk list -n 0 | grep LIVE && ublk del -n 0`;
});

story("a kernel that cannot change the size of a device is told by name", {}, async (vm) => {
  const image = `${vm.data}/old.img`;
  await vm.sh`truncate -s 64M ${image}`;
  const id = await vm.add`-t loop -f ${image}`;
  if (!/UPDATE_SIZE/.test(await vm.sh`ublk features`)) {
    const { status, stderr } = await vm.run`ublk resize -n ${id} --size 128M`;
    expect(stderr).toMatch(/UBLK_F_UPDATE_SIZE\)\n.*Linux 6.16/);
    expect(status).toBe(1);
  }
  expect(Number(await vm.sh`stat -c %s ${image}`)).toBe(64 << 20);
  await vm.sh`ublk del -n ${id}`;
});
