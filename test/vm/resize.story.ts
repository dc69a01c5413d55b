// Goal: a device that is in use gets another size, its disk follows, and nothing is lost.
// Method: ext4 on it, with fio writing and verifying, while it grows; fsck judges, and the sizes
// that the kernel, the image and the state file say; then smaller again; then what is refused.

import { expect } from "bun:test";
import { type Needs, raw, story, type Vm } from "./story.ts";

const MiB = 1 << 20;
const RESIZES = { features: ["UBLK_F_UPDATE_SIZE"] } satisfies Needs;
/** Its files are written, flushed, and verified at the end. */
const WRITES =
  "--rw=randwrite --bs=16k --size=48M --verify=crc32c --ioengine=libaio --iodepth=16 --fsync=64";

async function refused(vm: Vm, command: string, line: RegExp, status = 1): Promise<void> {
  const result = await vm.run`${raw(command)}`;
  expect(result.stderr, command).toMatch(line);
  expect(result.stderr.trim().split("\n").length, result.stderr).toBeLessThanOrEqual(2);
  expect([result.status, result.stdout], command).toEqual([status, ""]);
}

/** What the kernel, the driver and the state file say of a device's size. */
async function expectSize(vm: Vm, id: number, bytes: number): Promise<void> {
  expect(Number(await vm.sh`blockdev --getsize64 /dev/ublkb${id}`)).toBe(bytes);
  const [view] = JSON.parse(await vm.sh`ublk list -n ${id} --json`) as [
    { dev_sectors: number; target: { dev_size: number } },
  ];
  expect([view.dev_sectors * 512, view.target.dev_size]).toEqual([bytes, bytes]);
}

/** mkfs, mount, and a writer that has begun; `grow` happens under it. */
async function growUnderExt4(vm: Vm, id: number, grow: () => Promise<unknown>): Promise<void> {
  await vm.sh`mkfs.ext4 -q /dev/ublkb${id} && mkdir -p /mnt/r && mount /dev/ublkb${id} /mnt/r`;
  const before = Number(await vm.sh`stat -f -c %b /mnt/r`);
  const fio = vm.start`fio --name=w --directory=/mnt/r ${raw(WRITES)}`;
  await vm.sh`until test -e /mnt/r/w.0.0; do sleep 0.1; done`;
  await grow();
  await vm.sh`resize2fs /dev/ublkb${id}`;
  await fio.succeeds();
  expect(Number(await vm.sh`stat -f -c %b /mnt/r`)).toBeGreaterThan(1.8 * before);
  await vm.sh`umount /mnt/r && fsck.ext4 -fn /dev/ublkb${id}`;
}

story("a loop disk grows under a mounted file system, and shrinks", RESIZES, async (vm) => {
  const image = `${vm.data}/r.img`;
  await vm.sh`truncate -s 129M ${image}`;
  const id = await vm.add`-t loop -f ${image} -o 1M -q 2`;
  await growUnderExt4(vm, id, async () => {
    const said = await vm.sh`ublk resize -n ${id} --size 256M`;
    expect(said).toBe(`device ${id} has ${256 * MiB} bytes now, ${128 * MiB} before`);
    await expectSize(vm, id, 256 * MiB);
    expect(Number(await vm.sh`stat -c %s ${image}`)).toBe(257 * MiB);
    await vm.sh`ublk resize -n ${id} --size +16M && truncate -s +16M ${image}`;
    await vm.sh`ublk resize -n ${id}`;
    await expectSize(vm, id, 288 * MiB);
  });

  await refused(
    vm,
    `ublk resize -n ${id} --size 128M`,
    /has 301989888 bytes, and 134217728 are fewer\n.*--shrink/,
  );
  await vm.sh`fsck.ext4 -fp /dev/ublkb${id} && resize2fs /dev/ublkb${id} 120M`;
  await vm.sh`ublk resize -n ${id} --size 128M --shrink`;
  await expectSize(vm, id, 128 * MiB);
  expect(Number(await vm.sh`stat -c %s ${image}`)).toBe(129 * MiB);
  await vm.sh`fsck.ext4 -fn /dev/ublkb${id}`;

  await refused(vm, `ublk resize -n ${id} --size 1000`, /1000 bytes are no positive multiple/);
  await refused(vm, `ublk resize -n ${id} --size 0`, /--size '0'/, 2);
  await refused(vm, `ublk resize -n 77 --size 1G`, /device 77: ENODEV/);
  await vm.sh`truncate -s 200M ${image}`;
  await refused(vm, `ublk resize -n ${id} --size 150M`, /bytes for the disk already/);
  await vm.sh`kill -9 ${await vm.daemonPid(id)}`;
  await vm.becomes(id, "DEAD", 60_000);
  await refused(vm, `ublk resize -n ${id} --size 1G`, /is DEAD, not LIVE/);
  await vm.sh`ublk del -n ${id}`;
  expect(await vm.sh`ls -A /run/ublk`).toBe("");
});

story("a disk takes whole blocks of the device of what its file has", RESIZES, async (vm) => {
  const image = `${vm.data}/w.img`;
  await vm.sh`truncate -s 64M ${image}`;
  const id = await vm.add`-t loop -f ${image} --buffered-io --logical-block-size 4096`;
  await vm.sh`truncate -s +5000 ${image}`;
  await vm.sh`ublk resize -n ${id}`;
  await expectSize(vm, id, 64 * MiB + 4096);
  await vm.sh`ublk resize -n ${id}`; // again
  expect(Number(await vm.sh`stat -c %s ${image}`)).toBe(64 * MiB + 5000);
  await vm.sh`ublk del -n ${id}`;
});

story(
  "a disk follows a block device that has grown; a null disk is any size",
  RESIZES,
  async (vm) => {
    await vm.sh`modprobe loop && truncate -s 64M ${vm.data}/b.img`;
    const under = await vm.sh`losetup -f --show ${vm.data}/b.img`;
    const id = await vm.add`-t loop -f ${under}`;
    expect(await vm.sh`ublk resize -n ${id}`).toBe(`device ${id} has ${64 * MiB} bytes`);
    await refused(vm, `ublk resize -n ${id} --size 80M`, /is a block device of 67108864 bytes/);
    await vm.sh`truncate -s 96M ${vm.data}/b.img && losetup -c ${under}`;
    await vm.sh`ublk resize -n ${id}`;
    await expectSize(vm, id, 96 * MiB);
    await vm.sh`dd if=/dev/zero of=/dev/ublkb${id} bs=1M seek=95 oflag=direct status=none`.then(
      () => expect.unreachable(),
      () => {},
    ); // to the very end, and not further
    await vm.sh`ublk del -n ${id}`;

    const only = await vm.add`-t loop -f ${under} --read-only`;
    await refused(vm, `ublk resize -n ${only} --size 48M --shrink`, /is open read-only/);
    await vm.sh`ublk del -n ${only} && losetup -d ${under}`;

    const none = await vm.add`-t null --size 1G -r`;
    await vm.sh`ublk resize -n ${none} --size +1G`;
    await expectSize(vm, none, 2048 * MiB);
    await refused(vm, `ublk resize -n ${none}`, /does not say a size\n.*--size SIZE/);
    const state = JSON.parse(await vm.read(`/run/ublk/${none}.json`)) as {
      target: { config: { size: number } };
    };
    expect(state.target.config.size).toBe(2048 * MiB);
    expect(await vm.sh`stat -c %a:%U /run/ublk/${none}.sock`).toBe("600:root");

    await vm.sh`kill -9 ${await vm.daemonPid(none)}`;
    await vm.becomes(none, "QUIESCED", 60_000);
    await refused(
      vm,
      `ublk resize -n ${none} --size 3G`,
      /is QUIESCED, not LIVE.*\n.*ublk recover/,
    );
    await vm.sh`ublk recover -n ${none}`;
    await expectSize(vm, none, 2048 * MiB);
    await vm.sh`ublk resize -n ${none} --size 3G`;
    await expectSize(vm, none, 3072 * MiB);
    await vm.sh`ublk del -n ${none}`;
  },
);
