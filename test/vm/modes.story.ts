// Goal: however data and commands travel, what is written is what is read, and nothing else is.
// Method: fio with checksums in every mode, on one queue and on two; a null disk that must read
// zeros; modes that a kernel lacks are refused by name.

import { expect } from "bun:test";
import { FEATURES, type FeatureFlag } from "../../ffi/ublk_cmd.ts";
import { raw, story, type Vm } from "./story.ts";

const VERIFY = [
  "--name=v --rw=randwrite --bsrange=512-512k --size=16M --iodepth=32 --ioengine=io_uring",
  "--direct=1 --fsync=64 --verify=crc32c --verify_fatal=1 --randseed=3",
].join(" ");
const TRIM = "--name=t --rw=randtrim --bs=64k --offset=32M --size=32M --iodepth=4 --direct=1";

interface Way {
  option: string;
  mode: string;
  needs: FeatureFlag[];
}

const COPY: Way = { option: "--mode copy", mode: "copy", needs: [] };
const WAYS: Way[] = [
  COPY,
  { option: "-g", mode: "get-data", needs: ["UBLK_F_NEED_GET_DATA"] },
  { option: "--usercopy", mode: "user-copy", needs: ["UBLK_F_USER_COPY"] },
  { option: "--mode zero-copy", mode: "zero-copy", needs: ["UBLK_F_SUPPORT_ZERO_COPY"] },
  {
    option: "--mode zero-copy --zero-copy-min 0",
    mode: "zero-copy",
    needs: ["UBLK_F_SUPPORT_ZERO_COPY"],
  },
  { option: "-z", mode: "auto-zero-copy", needs: ["UBLK_F_AUTO_BUF_REG"] },
];
const BATCHED: Way[] = WAYS.filter(({ mode }) => mode !== "get-data").map((way) => ({
  ...way,
  option: `${way.option} -b`,
  needs: [...way.needs, "UBLK_F_BATCH_IO"],
}));
const THREADED: Way[] = [
  { ...COPY, option: "--mode copy -q 2 --threads 1" },
  { ...COPY, option: "--mode copy --threads 2", needs: ["UBLK_F_PER_IO_DAEMON"] },
];

for (const way of [...WAYS, ...BATCHED, ...THREADED]) {
  story(`data survives ${way.option}`, { features: way.needs, timeout: 400 }, async (vm) => {
    vm.patience = 300;
    await vm.sh`truncate -s 64M ${vm.data}/m.img`;
    for (const queues of queueCounts(way)) {
      const add = `-t loop -f ${vm.data}/m.img ${way.option} ${queues}`;
      const id = await vm.add`${raw(add)}`;
      const [view] = JSON.parse(await vm.sh`ublk list -n ${id} --json`);
      expect(view).toMatchObject({ mode: way.mode, batch: way.option.includes("-b") });
      await vm.sh`fio --filename=/dev/ublkb${id} ${raw(VERIFY)} ${raw(TRIM)}`;
      await vm.sh`ublk del -n ${id}`;
    }
    await nullReadsZeros(vm, way.option);
  });
}

/** Two queues have all that one has; one alone is looked at where most disks are served. */
function queueCounts({ option, mode }: Way): string[] {
  if (option.includes("--threads")) return [""];
  return mode === "copy" || option === "-z" ? ["-q 1", "-q 2"] : ["-q 2"];
}

/** Kernel memory of somebody else is what a reader must never get. */
async function nullReadsZeros(vm: Vm, option: string): Promise<void> {
  const id = await vm.add`-t null --size 1G -d 4 ${raw(option)}`;
  await vm.sh`head -c 4M /dev/urandom > /tmp/noise`;
  for (const bs of ["4k", "512k"]) {
    await vm.sh`dd if=/tmp/noise of=/dev/ublkb${id} bs=${bs} oflag=direct status=none`;
    await vm.sh`dd if=/dev/ublkb${id} bs=${bs} count=${bs === "4k" ? 256 : 8} iflag=direct status=none |
      cmp -n ${1 << 20} - /dev/zero`;
  }
  await vm.sh`ublk del -n ${id}`;
}

story(
  "the end of a truncated file is an error in every mode, and shows nothing",
  {},
  async (vm) => {
    const features = await vm.sh`ublk features`;
    for (const { option, needs } of [...WAYS, ...BATCHED]) {
      if (!needs.every((flag) => offers(features, flag))) continue;
      const image = `${vm.data}/short.img`;
      await vm.sh`truncate -s 8M ${image}`;
      const id = await vm.add`-t loop -f ${image} ${raw(option)}`;
      await vm.sh`truncate -s 4M ${image}`;
      const read =
        await vm.run`dd if=/dev/ublkb${id} of=/tmp/got bs=64k skip=80 count=1 iflag=direct`;
      expect(read.stderr, option).toContain("Input/output error");
      expect(await vm.sh`stat -c %s /tmp/got`, option).toBe("0");
      await vm.sh`dd if=/dev/ublkb${id} bs=64k count=1 iflag=direct status=none | cmp -n 65536 - /dev/zero`;
      await vm.sh`ublk del -n ${id}`;
    }
  },
);

/** `features`: what `ublk features` printed; its first line ends with the bits. */
function offers(features: string, flag: FeatureFlag): boolean {
  const bits = BigInt(/0x[0-9a-f]+/.exec(features)?.[0] ?? 0);
  return ((bits >> BigInt(FEATURES.findIndex((one) => one.flag === flag))) & 1n) === 1n;
}

story(
  "a mode that the kernel lacks is refused by name, before there is a device",
  {},
  async (vm) => {
    const features = await vm.sh`ublk features`;
    for (const { option, needs } of [...WAYS, ...BATCHED]) {
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
  "without a word the best mode is chosen: zero copy for files, copy for null",
  {},
  async (vm) => {
    const auto = offers(await vm.sh`ublk features`, "UBLK_F_AUTO_BUF_REG");
    await vm.sh`truncate -s 16M ${vm.data}/c.img`;
    await vm.add`-t null --size 1G`;
    await vm.add`-t loop -f ${vm.data}/c.img`;
    const views = JSON.parse(await vm.sh`ublk list --json`);
    expect(views.map((view: { mode: string }) => view.mode)).toEqual([
      "copy",
      auto ? "auto-zero-copy" : "copy",
    ]);
    await vm.sh`ublk del -a`;
  },
);
