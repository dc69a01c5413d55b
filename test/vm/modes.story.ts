// Goal: however data and commands travel, what is written is what is read, and nothing else is.
// Method: fio with verification in every mode, on one queue and on two, on a file and on a null
// disk, which must read zeros; modes that a kernel lacks are refused by name.

import { expect } from "bun:test";
import { raw, story } from "./story.ts";
import { BATCHED, offers, THREADED, type Way, WAYS } from "./ways.ts";

const VERIFY = [
  "--name=v --rw=randwrite --bsrange=512-512k --size=16M --iodepth=32 --ioengine=io_uring",
  "--direct=1 --fsync=64 --verify=crc32c --verify_fatal=1 --randseed=3",
].join(" ");
/** What a null disk can be asked for: zeros, whatever was written. */
const ZEROS = [
  "--name=z --rw=randwrite --bsrange=512-512k --size=8M --iodepth=32 --ioengine=io_uring",
  "--direct=1 --verify=pattern --verify_pattern=0x00 --verify_fatal=1 --randseed=4",
].join(" ");
const TRIM = "--name=t --rw=randtrim --bs=64k --offset=32M --size=32M --iodepth=4 --direct=1";

for (const way of [...WAYS, ...BATCHED, ...THREADED]) {
  story(`data survives ${way.option}`, { features: way.needs, timeout: 400 }, async (vm) => {
    vm.patience = 300;
    await vm.sh`truncate -s 64M ${vm.data}/m.img`;
    for (const queues of queueCounts(way)) {
      const options = raw(`${way.option} ${queues}`);
      const loop = vm.start`ublk add -n 0 -t loop -f ${vm.data}/m.img ${options}`;
      await vm.sh`ublk add -n 1 -t null --size 64M -d 4 ${options}`;
      await loop.succeeds();
      const views = JSON.parse(await vm.sh`ublk list --json`);
      const travels = { mode: way.mode, batch: way.option.includes("-b") };
      expect(views).toMatchObject([travels, travels]);
      // The noise stands in the daemon's few buffers until they are filled.
      await vm.sh`head -c 4M /dev/urandom > /tmp/noise`;
      await vm.sh`dd if=/tmp/noise of=/dev/ublkb1 bs=512k oflag=direct status=none`;
      await vm.sh`fio ${raw([VERIFY, TRIM].map(on(0)).join(" "))} ${raw(on(1)(ZEROS))}`;
      await vm.sh`ublk del -a`;
    }
  });
}

/** A fio job on a device. */
function on(id: number): (job: string) => string {
  return (job) => `${job} --filename=/dev/ublkb${id}`;
}

const queueCounts = ({ option }: Way): string[] =>
  option.includes("--threads") ? [""] : ["-q 1", "-q 2"];

story(
  "a mode that the kernel lacks is refused by name, before there is a device",
  {},
  async (vm) => {
    const features = await vm.sh`ublk features`;
    for (const { option, needs } of [...WAYS, ...BATCHED, ...THREADED]) {
      if (needs.every((flag) => offers(features, flag))) continue;
      const result = await vm.run`ublk add -t null ${raw(option)}`;
      expect(result.stderr, option).toContain("this kernel's driver lacks UBLK_F_");
      expect(result.status, option).toBe(1);
    }
    for (const both of ["-g --usercopy", "-g -z", "-g -b", "--usercopy -z", "--mode copy -z"]) {
      const result = await vm.run`ublk add -t null ${raw(both)}`;
      expect(result.stderr, both).toContain("exclude each other");
      expect(result.status, both).toBe(2);
    }
    expect(await vm.sh`ublk list`).toBe("");
  },
);

story(
  "without a word automatic zero copy and batches are chosen, as far as the kernel has them",
  {},
  async (vm) => {
    const features = await vm.sh`ublk features`;
    const mode = offers(features, "UBLK_F_AUTO_BUF_REG") ? "auto-zero-copy" : "copy";
    const batch = offers(features, "UBLK_F_BATCH_IO");
    await vm.sh`truncate -s 64M ${vm.data}/c.img`;
    const disk = await vm.add`-t loop -f ${vm.data}/c.img`;
    await vm.add`-t null --size 1G`;
    await vm.add`-t null --size 1G --no-fill`;
    const views = JSON.parse(await vm.sh`ublk list --json`);
    const chosen = views.map((view: { mode: string; batch: boolean }) => [view.mode, view.batch]);
    expect(chosen).toEqual([
      [mode, batch],
      [mode, batch],
      ["copy", batch],
    ]);
    await vm.sh`fio --filename=/dev/ublkb${disk} ${raw(VERIFY)} ${raw(TRIM)}`;
    await vm.sh`ublk del -a`;
    const shows = await vm.run`ublk add -t null --no-fill --usercopy`;
    expect(shows.stderr).toContain("would show kernel memory");
    expect(shows.status).toBe(1);
  },
);
