// Goal: the block device is what it is kept in, and what `add` was told.
// Method: /sys/block/ublkbN beside the words of `add` and beside the device below.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

const NAMES = [
  ...["logical_block_size", "physical_block_size", "minimum_io_size", "optimal_io_size"],
  ...["max_hw_sectors_kb", "rotational", "write_cache", "fua", "dma_alignment"],
  ...["discard_granularity", "discard_max_hw_bytes", "write_zeroes_max_bytes"],
  ...["max_segments", "max_segment_size", "virt_boundary_mask"],
] as const;
type Limits = Record<(typeof NAMES)[number] | "ro", string>;

const VERIFY = [
  "--name=v --rw=randwrite --bsrange=4k-512k --size=8M --direct=1 --ioengine=io_uring",
  "--iodepth=16 --verify=crc32c --verify_fatal=1",
].join(" ");

/** The limits of a block device: the files of its queue, and whether it is read-only. */
async function limitsOf(vm: Vm, disk: string): Promise<Limits> {
  const files = NAMES.map((name) => `queue/${name}`);
  const text = await vm.sh`cd /sys/class/block/${disk} && grep . ro ${raw(files.join(" "))}`;
  const pairs = text.split("\n").map((line) => line.replace("queue/", "").split(":"));
  return Object.fromEntries(pairs) as Limits;
}

const APPEARS =
  "for i in {1..50}; do test -b /dev/ublkb0p1 && break; sleep 0.1; done; test $i -lt 50";

async function added(vm: Vm, options: string): Promise<Limits> {
  const id = await vm.add`${raw(options)}`;
  const limits = await limitsOf(vm, `ublkb${id}`);
  await vm.sh`ublk del -n ${id}`;
  return limits;
}

story("a block device is what its target is and what was asked for", {}, async (vm) => {
  const image = `${vm.data}/p.img`;
  await vm.sh`truncate -s 64M ${image}`;
  expect(await added(vm, `-t loop -f ${image}`)).toMatchObject({
    logical_block_size: await vm.sh`cat /sys/class/block/vdb/queue/logical_block_size`,
    ...{ physical_block_size: "4096", minimum_io_size: "4096", optimal_io_size: "4096" },
    max_hw_sectors_kb: "512",
    ...{ rotational: "0", write_cache: "write back", fua: "1", ro: "0" },
    discard_granularity: "4096",
    discard_max_hw_bytes: String(2 ** 32 - 512),
    write_zeroes_max_bytes: String(2 ** 32 - 512),
  });
  const asked = "--logical-block-size 4K --physical-block-size 16K --rotational";
  expect(
    await added(vm, `-t loop -f ${image} ${asked} --max-io-buf-bytes 1M --read-only`),
  ).toMatchObject({
    logical_block_size: "4096",
    ...{ physical_block_size: "16384", minimum_io_size: "16384", optimal_io_size: "16384" },
    max_hw_sectors_kb: "1024",
    ...{ rotational: "1", ro: "1", write_cache: "write back", fua: "1" },
    ...{ discard_max_hw_bytes: "0", write_zeroes_max_bytes: "0" },
  });
  expect(await added(vm, "-t null --size 1G")).toMatchObject({
    ...{ logical_block_size: "512", physical_block_size: "4096" },
    ...{ write_cache: "write through", fua: "0", rotational: "0", ro: "0" },
  });
  expect(await added(vm, "-t null --size 1G --max-io-buf-bytes 4K")).toMatchObject({
    max_hw_sectors_kb: "4",
  });

  await vm.sh`printf 'start=2048\n' | sfdisk -q ${image}`;
  const scanned = JSON.parse(await vm.sh`ublk add -t loop -f ${image} --json`);
  await vm.sh`${raw(APPEARS)}`; // the driver looks for partitions after START_DEV has returned
  const numbers = await vm.sh`stat -c '%Hr %Lr' /dev/ublkc0 /dev/ublkb0`;
  const { char_major, char_minor, disk_major, disk_minor } = scanned;
  expect(numbers).toBe(`${char_major} ${char_minor}\n${disk_major} ${disk_minor}`);
  await vm.sh`ublk del -n 0`;
  const bare = await vm.run`ublk add -t loop -f ${image} --no-auto-part-scan`;
  if (bare.status === 0) {
    await vm.sh`sleep 1; udevadm settle; ! test -e /sys/block/ublkb0/ublkb0p1`;
    await vm.sh`blockdev --rereadpt /dev/ublkb0 && ${raw(APPEARS)} && ublk del -n 0`;
  } else {
    expect(bare.stderr).toContain("this kernel's driver lacks UBLK_F_NO_AUTO_PART_SCAN");
  }
});

story("where pages go to the device below unseen, requests fit it", {}, async (vm) => {
  // A device that takes no gaps between the pieces of memory, as NVMe without SGLs.
  await vm.sh`modprobe null_blk nr_devices=1 gb=1 memory_backed=1 virt_boundary=1`;
  await vm.sh`mkdir -p /mnt/t && mount -t tmpfs none /mnt/t`;
  await vm.sh`truncate -s 64M ${vm.data}/s.img /mnt/t/s.img`;
  const below = { [`${vm.data}/s.img`]: "vdb", [vm.spare]: "vdc", "/dev/nullb0": "nullb0" };
  const shape = ({ max_segments, max_segment_size, virt_boundary_mask }: Limits) => [
    max_segments,
    max_segment_size,
    virt_boundary_mask,
  ];
  const free = shape(await added(vm, "-t loop -f /mnt/t/s.img"));
  expect(free).toEqual(["65535", String(2 ** 32 - 1), "0"]);
  for (const [file, disk] of Object.entries(below)) {
    expect(shape(await added(vm, `-t loop -f ${file} --mode copy`)), file).toEqual(free);
    const id = await vm.add`-t loop -f ${file}`;
    const [{ mode }] = JSON.parse(await vm.sh`ublk list -n ${id} --json`);
    const [ours, theirs] = [await limitsOf(vm, `ublkb${id}`), await limitsOf(vm, disk)];
    if (mode === "auto-zero-copy") {
      expect(shape(ours), file).toEqual(shape(theirs));
      expect(ours.dma_alignment, file).toBe(theirs.dma_alignment);
    } else {
      expect([mode, ...shape(ours)], file).toEqual(["copy", ...free]);
    }
    await vm.sh`fio --filename=/dev/ublkb${id} ${raw(VERIFY)}`;
    await vm.sh`ublk del -n ${id}`;
  }
  await vm.sh`umount /mnt/t; until rmmod null_blk; do sleep 0.1; done`; // whoever looked at it
});

story(
  "a queue's thread runs on the CPUs that were asked for, and goes where it is sent",
  {},
  async (vm) => {
    const id = await vm.add`-t null --size 1G -q 2 --queue-affinity 1/0`;
    const pid = await vm.daemonPid(id);
    const seen = async () => {
      const [view] = JSON.parse(await vm.sh`ublk list -n ${id} --json`);
      const state = JSON.parse(await vm.read(`/run/ublk/${id}.json`));
      const queues = [];
      for (const { q_id, tid, affinity } of view.queues) {
        const status = `/proc/${pid}/task/${tid}/status`;
        expect(state.affinity[q_id]).toEqual(affinity);
        queues.push([affinity, await vm.sh`grep Cpus_allowed_list ${status} | cut -f2`]);
      }
      return queues;
    };
    expect(await seen()).toEqual([
      [[1], "1"],
      [[0], "0"],
    ]);
    await vm.sh`ublk set_affinity -n ${id} -q 1 --cpuset 0-1`;
    expect(await seen()).toEqual([
      [[1], "1"],
      [[0, 1], "0-1"],
    ]);
    for (const [words, line] of [
      [`set_affinity -n ${id} -q 2 --cpuset 0`, /device 0 queue 2: .*has 2 queues/],
      [`set_affinity -n ${id} -q 0 --cpuset 77`, /none of these CPUs is on line/],
      ["add -t null --queue-affinity 77", /none of these CPUs is on line[^]*on line: 0-1/],
    ] as const) {
      const refused = await vm.run`ublk ${raw(words)}`;
      expect(refused.stderr).toMatch(line);
      expect(refused.status).toBe(1);
    }
    expect(await seen()).toEqual([
      [[1], "1"],
      [[0, 1], "0-1"],
    ]);
    await vm.sh`dd if=/dev/ublkb${id} of=/dev/null bs=4k count=64 iflag=direct`;
    await vm.sh`ublk del -n ${id}`;
  },
);

story(
  "threads that share a queue have a CPU each, and move together",
  { features: ["UBLK_F_PER_IO_DAEMON"] },
  async (vm) => {
    const id = await vm.add`-t null --size 1G --threads 2`;
    const pid = await vm.daemonPid(id);
    const allowed = async (): Promise<string> =>
      vm.sh`for t in $(grep -l '^ublk${id}q' /proc/${pid}/task/*/comm); do
        grep Cpus_allowed_list $(dirname $t)/status | cut -f2; done | sort`;
    expect(await allowed()).toBe("0\n1");
    await vm.sh`ublk set_affinity -n ${id} -q 0 --cpuset 1`;
    expect(await allowed()).toBe("1\n1");
    await vm.sh`ublk del -n ${id}`;
  },
);

story(
  "threads for more queues than the driver gives serve those that there are",
  {},
  async (vm) => {
    await vm.sh`truncate -s 16M ${vm.data}/few.img`;
    const id = await vm.add`-t loop -f ${vm.data}/few.img -q 8 --threads 8`;
    expect(await vm.sh`ublk list -n ${id} --json`).toMatch(/"nr_hw_queues":2,/);
    await vm.sh`fio ${raw(VERIFY)} --numjobs=2 --offset_increment=8m --filename=/dev/ublkb${id}`;
    await vm.sh`ublk del -n ${id}`;
  },
);
