// Goal: what is wrong underneath reaches whoever asked, and nobody else; the server lives on.
// Method: the file system below the image is full, or the device below fails (device mapper);
// afterwards the trouble is taken away, and qemu-img judges the image.

import { expect } from "bun:test";
import { GuestLog } from "./guest_log.ts";
import { raw, story, type Vm } from "./story.ts";

const WRITE = "bs=64k oflag=direct conv=fsync status=none";

/** What dd complains of, "" when it does not. */
async function write(vm: Vm, seek: number, count: number): Promise<string> {
  const where = `of=/dev/ublkb0 seek=${seek} count=${count}`;
  return (await vm.run`dd if=/dev/urandom ${raw(where)} ${raw(WRITE)}`).stderr;
}

async function read(vm: Vm, skip: number, count: number): Promise<string> {
  const where = `of=/dev/null skip=${skip} count=${count}`;
  return (await vm.run`dd if=/dev/ublkb0 ${raw(where)} bs=64k iflag=direct status=none`).stderr;
}

/** A small file system with a ballast that can be thrown off. */
async function smallFileSystem(vm: Vm): Promise<string> {
  await vm.sh`mke2fs -q -F -t ext4 ${vm.spare} 24M && mkdir -p /tmp/small &&
    mount ${vm.spare} /tmp/small &&
    dd if=/dev/zero of=/tmp/small/ballast bs=1M count=8 status=none`;
  return "/tmp/small";
}

story(
  "a full file system under loop and qcow2 is ENOSPC to the writer, until there is room",
  {},
  async (vm) => {
    for (const type of ["loop", "qcow2"]) {
      const folder = await smallFileSystem(vm);
      const image = `${folder}/a`;
      if (type === "loop") await vm.sh`truncate -s 64M ${image}`;
      else await vm.sh`qemu-img create -q -f qcow2 ${image} 64M`;
      await vm.add`-t ${type} -f ${image}`;
      const pid = await vm.daemonPid(0);
      expect(await write(vm, 0, 16), type).toBe("");
      expect(await write(vm, 16, 512), type).toContain("No space left on device");
      expect(await read(vm, 0, 512), type).toBe("");
      await vm.sh`rm ${folder}/ballast`;
      expect(await write(vm, 512, 32), type).toBe("");
      expect(await vm.daemonPid(0)).toBe(pid);
      await vm.sh`ublk del -n 0`;
      if (type === "qcow2") {
        const { status, stdout } = await vm.run`qemu-img check ${image}`;
        expect([0, 3], stdout).toContain(status);
      }
      await vm.sh`umount ${folder}`;
    }
  },
);

/** A device over the spare one whose table can be changed under its user. */
async function mapped(vm: Vm): Promise<(table: string) => Promise<void>> {
  const sectors = 64 << 11;
  await vm.sh`modprobe -a dm-mod dm-flakey`;
  await vm.sh`dmsetup create faulty --table ${`0 ${sectors} linear ${vm.spare} 0`}`;
  return async (table) => {
    const line = `0 ${sectors} ${table}`;
    await vm.sh`dmsetup suspend --nolockfs faulty && dmsetup reload faulty --table ${line} &&
      dmsetup resume faulty`;
  };
}

story(
  "a device that fails under loop is EIO to whoever asked, until it works again",
  {},
  async (vm) => {
    const become = await mapped(vm);
    await vm.add`-t loop -f /dev/mapper/faulty`;
    const pid = await vm.daemonPid(0);
    expect(await write(vm, 0, 16)).toBe("");
    await become("error");
    expect(await read(vm, 0, 1)).toContain("Input/output error");
    expect(await write(vm, 0, 1)).toContain("Input/output error");
    await become(`linear ${vm.spare} 0`);
    expect(await read(vm, 0, 16)).toBe("");
    expect(await write(vm, 16, 16)).toBe("");
    expect(await vm.daemonPid(0)).toBe(pid);
    await vm.sh`ublk del -n 0; dmsetup remove --retry faulty`;
  },
);

story(
  "qcow2 on a device that fails to write takes no further write, reads on, and says so once",
  {},
  async (vm) => {
    const log = await GuestLog.start(vm);
    const become = await mapped(vm);
    await vm.sh`qemu-img create -q -f qcow2 /dev/mapper/faulty 48M`;
    await vm.add`-t qcow2 -f /dev/mapper/faulty`;
    const pid = await vm.daemonPid(0);
    expect(await write(vm, 0, 16)).toBe("");
    // Reads work, writes do not; no interval in which both do.
    await become(`flakey ${vm.spare} 0 0 1 1 error_writes`);
    expect(await write(vm, 100, 4)).toContain("Input/output error");
    expect(await write(vm, 0, 4)).toContain("Input/output error");
    await become(`linear ${vm.spare} 0`);
    expect(await write(vm, 200, 4)).toContain("Input/output error");
    const fence = "ublk0: /dev/mapper/faulty: fdatasync failed (errno 5): NO WRITE IS ACCEPTED";
    await log.hears(fence);
    expect(await read(vm, 0, 512)).toBe("");
    expect(await vm.daemonPid(0)).toBe(pid);
    await vm.sh`ublk del -n 0`;
    await log.hears("ublk0: stopped");
    expect(log.lines.filter((line) => line.startsWith(fence))).toHaveLength(1);
    const { status, stdout } = await vm.run`qemu-img check -f qcow2 /dev/mapper/faulty`;
    expect([0, 3], stdout).toContain(status);
    await vm.add`-t qcow2 -f /dev/mapper/faulty`;
    expect(await write(vm, 200, 4)).toBe("");
    await vm.sh`ublk del -n 0; dmsetup remove --retry faulty`;
    await log.stop();
  },
);
