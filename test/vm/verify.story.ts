// Goal: what is written is what is read, whatever else happens in between.
// Method: fio writes blocks that carry their own checksums, at many sizes, with flushes and
// discards mixed in, and reads them all back.

import { expect } from "bun:test";
import { raw, story } from "./story.ts";

const WRITES = [
  "--name=v --rw=randwrite --bsrange=512-256k --size=96M --io_size=160M --iodepth=32",
  "--ioengine=io_uring --direct=1 --fsync=64 --randseed=1 --verify=crc32c --verify_fatal=1",
].join(" ");
/** Beside them, so that the device has writes, flushes and discards in flight together. */
const TRIMS = [
  "--name=t --rw=randtrim --bs=64k --offset=128M --size=64M --io_size=128M --iodepth=4",
  "--ioengine=libaio --direct=1 --randseed=2",
].join(" ");

for (const queues of [1, 2]) {
  for (const how of ["", "--buffered-io"]) {
    const name = `${queues} queue${queues > 1 ? "s" : ""}, ${how === "" ? "direct" : "buffered"}`;
    story(`fio finds every checksum again: ${name}`, { timeout: 400 }, async (vm) => {
      await vm.sh`truncate -s 256M ${vm.data}/v.img`;
      const id = await vm.add`-t loop -f ${vm.data}/v.img -q ${queues} ${raw(how)}`;
      const [view] = JSON.parse(await vm.sh`ublk list -n ${id} --json`);
      expect(view.nr_hw_queues).toBe(queues);
      expect(view.target.direct_io).toBe(how === "");
      vm.patience = 300;
      await vm.sh`fio --filename=/dev/ublkb${id} ${raw(WRITES)} ${raw(TRIMS)}`;
      await vm.sh`ublk del -n ${id}`;
    });
  }
}

story(
  "discards give space back, zeroes read as zeros, and neither harms its neighbours",
  {},
  async (vm) => {
    const image = `${vm.data}/d.img`;
    await vm.sh`head -c 64M /dev/urandom > ${image} && cp ${image} ${image}.model && sync`;
    const id = await vm.add`-t loop -f ${image}`;
    const disk = `/dev/ublkb${id}`;
    const full = Number(await vm.sh`stat -c %b ${image}`);
    for (const [command, offset, length] of [
      ["blkdiscard", 1 << 20, 8 << 20],
      ["blkdiscard -z", 16 << 20, (3 << 20) + 512],
      ["fallocate -z -n", 32 << 20, 2 << 20],
      ["fallocate -p", 40 << 20, 1 << 20],
    ] as const) {
      await vm.sh`${raw(command)} -o ${offset} -l ${length} ${disk}`;
      const block = { count: length / 512, at: offset / 512 };
      await vm.sh`dd if=/dev/zero of=${image}.model bs=512 count=${block.count} seek=${block.at} conv=notrunc status=none`;
    }
    await vm.sh`blockdev --flushbufs ${disk} && cmp ${disk} ${image}.model`;
    await vm.sh`ublk del -n ${id} && cmp ${image} ${image}.model`;
    expect(Number(await vm.sh`stat -c %b ${image}`)).toBeLessThan(full - (8 << 20) / 512);
  },
);

story("a null disk reads zeros, also where it was written to", {}, async (vm) => {
  const id = await vm.add`-t null --size 1G -d 4`;
  await vm.sh`head -c 4M /dev/urandom > /tmp/noise`;
  await vm.sh`dd if=/tmp/noise of=/dev/ublkb${id} bs=64k oflag=direct status=none`;
  const read = "iflag=direct bs=64k count=64 status=none";
  const sum = "sha256sum | cut -c1-64";
  const got = await vm.sh`dd if=/dev/ublkb${id} ${raw(read)} | ${raw(sum)}`;
  expect(got).toBe(await vm.sh`head -c 4M /dev/zero | ${raw(sum)}`);
  await vm.sh`ublk del -n ${id}`;
});

story("a disk with an offset is that part of the file and nothing else", {}, async (vm) => {
  const image = `${vm.data}/o.img`;
  await vm.sh`head -c 8M /dev/urandom > ${image} && cp ${image} ${image}.model`;
  const id = await vm.add`-t loop -f ${image} -o 2048`;
  expect(await vm.sh`blockdev --getsize64 /dev/ublkb${id}`).toBe(String(7 << 20));
  await vm.sh`head -c 1M /dev/zero | tee /dev/ublkb${id} | dd of=${image}.model bs=1M seek=1 conv=notrunc`;
  await vm.sh`ublk del -n ${id} && cmp ${image} ${image}.model`;
});

story(
  "a read-only disk refuses writes, and its file is never opened for writing",
  {},
  async (vm) => {
    await vm.sh`head -c 1M /dev/urandom > ${vm.data}/r.img && chmod 444 ${vm.data}/r.img`;
    const id = await vm.add`-t loop -f ${vm.data}/r.img --read-only`;
    expect(await vm.sh`blockdev --getro /dev/ublkb${id}`).toBe("1");
    expect((await vm.run`echo x > /dev/ublkb${id}`).status).not.toBe(0);
    const flags = await vm.sh`cd /proc/${await vm.daemonPid(id)}/fd && for f in *; do
    [ "$(readlink $f)" = ${vm.data}/r.img ] && grep flags ../fdinfo/$f; done; true`;
    expect(Number.parseInt(flags.split(/\s+/)[1]!, 8) & 3).toBe(0);
    await vm.sh`cmp /dev/ublkb${id} ${vm.data}/r.img && ublk del -n ${id}`;
  },
);

story("an error of the backing file reaches the one who asked, and nobody else", {}, async (vm) => {
  await vm.sh`mkdir -p /mnt/small && mount -t tmpfs -o size=8M none /mnt/small`;
  await vm.sh`truncate -s 32M /mnt/small/s.img`;
  const id = await vm.add`-t loop -f /mnt/small/s.img`;
  const disk = `/dev/ublkb${id}`;
  await vm.sh`head -c 4M /dev/urandom > /tmp/kept && dd if=/tmp/kept of=${disk} bs=1M oflag=direct`;
  const full = await vm.run`dd if=/dev/zero of=${disk} bs=1M seek=4 oflag=direct`;
  expect(full.stderr).toContain("No space left on device");
  await vm.sh`cmp -n 4194304 /tmp/kept ${disk}`;
  await vm.sh`blkdiscard -o 4M -l 28M ${disk}`;
  await vm.sh`dd if=/dev/zero of=${disk} bs=1M seek=5 count=1 oflag=direct && ublk del -n ${id}`;
  await vm.sh`umount /mnt/small`;

  await vm.sh`dmsetup create bad --table '0 131072 error'`;
  const broken = await vm.add`-t loop -f /dev/mapper/bad`;
  const read = await vm.run`dd if=/dev/ublkb${broken} of=/dev/null bs=4k count=1 iflag=direct`;
  expect(read.stderr).toContain("Input/output error");
  await vm.sh`ublk list -n ${broken} | grep -q LIVE && ublk del -n ${broken} && dmsetup remove --retry bad`;
});
