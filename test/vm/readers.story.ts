// Goal: no mode ever shows a reader bytes that are not the disk's, whatever becomes of a request.
// Method: the guest's free memory is full of noise, which an unfilled buffer would show. In every
// mode a disk that reads zeros, one whose file has become shorter, one with a bad range, and a
// qcow2 image with all kinds of clusters are read directly and through the page cache.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";
import { BATCHED, offers, WAYS } from "./ways.ts";

const MiB = 1 << 20;
/** Where the short file ends and the bad range begins: in the middle of a page of 4 KiB. */
const END = MiB + 6144;
const BAD_SECTORS = 4;
const [ZEROS, SHORT, BROKEN, IMAGE] = ["/dev/ublkb0", "/dev/ublkb1", "/dev/ublkb2", "/dev/ublkb3"];
const NOISE = "yes 'this is not of the disk' | head -c 128M > /dev/shm/noise; rm /dev/shm/noise";

/** `/data/model` is what the disks hold, `/data/top.raw` what qemu makes of the qcow2 image. */
async function prepare(vm: Vm): Promise<void> {
  await vm.sh`cd ${vm.data} && head -c 4M /dev/urandom > model`;
  await vm.sh`cd ${vm.data} && head -c 2097664 model > base`; // 2 MiB and a sector
  await vm.sh`cd ${vm.data} && qemu-img create -q -f qcow2 -b base -F raw top 4M &&
    qemu-io -c 'write -q -c -P 7 64k 64k' -c 'write -q -P 9 512k 70k' -c 'write -q -z 1M 64k' \
      -c 'discard -q 1536k 64k' -c 'write -q -c -P 5 3M 64k' -f qcow2 top &&
    qemu-img convert -O raw top top.raw`;
  await vm.sh`dd if=${vm.data}/model of=${vm.spare} bs=1M oflag=direct status=none`;
  const bad = END / 512;
  const behind = bad + BAD_SECTORS;
  await vm.sh`dmsetup create bad <<END
0 ${bad} linear ${vm.spare} 0
${bad} ${BAD_SECTORS} error
${behind} ${(4 * MiB) / 512 - behind} linear ${vm.spare} ${behind}
END`;
}

/** A bash function each: reads that must be the model's, and reads that must fail with nothing. */
const READERS = `
same() { # DISK MODEL FROM LENGTH
  dd if=$1 bs=64k iflag=direct,skip_bytes,count_bytes skip=$3 count=$4 status=none |
    cmp -n $4 - $2 0 $3 && cmp -n $4 $1 $2 $3 $3
}
fails() { # DISK HOW FROM LENGTH
  if dd if=$1 of=/tmp/got bs=$4 iflag=\${2}skip_bytes skip=$3 count=1 2> /tmp/why; then
    echo "a read of $4 bytes at $3 of $1 succeeded"; exit 1
  fi
  grep -q 'Input/output error' /tmp/why && ! [ -s /tmp/got ]
}
set -e
`;

story("no mode shows a reader bytes that are not the disk's", { timeout: 900 }, async (vm) => {
  const features = await vm.sh`ublk features`;
  await prepare(vm);
  // Batches carry commands, not data: with two ways of data they have shown what they can do.
  const batched = BATCHED.filter(({ option }) => /^(--mode copy|-z) /.test(option));
  for (const { option, needs } of [...WAYS, ...batched]) {
    if (!needs.every((flag) => offers(features, flag))) continue;
    await vm.sh`cp ${vm.data}/model ${vm.data}/short`;
    const targets = {
      [ZEROS]: "null --size 1G",
      [SHORT]: `loop -f ${vm.data}/short`,
      [BROKEN]: "loop -f /dev/mapper/bad",
      [IMAGE]: `qcow2 -f ${vm.data}/top`,
    };
    const added = Object.entries(targets).map(([disk, target]) => {
      const id = disk.replace("/dev/ublkb", "");
      return vm.sh`ublk add -n ${id} -t ${raw(target)} ${raw(option)} -q 2`;
    });
    await Promise.all(added);
    await vm.sh`truncate -s ${END} ${vm.data}/short && ${raw(NOISE)}`;
    const after = END + BAD_SECTORS * 512;
    await vm.sh`${raw(READERS)}
      same ${ZEROS} /dev/zero 0 ${4 * MiB}
      same ${SHORT} ${vm.data}/model 0 ${MiB}
      same ${BROKEN} ${vm.data}/model 0 ${MiB}
      same ${IMAGE} ${vm.data}/top.raw 0 ${4 * MiB}
      for disk in ${SHORT} ${BROKEN}; do
        fails $disk direct, ${END - 32768} 65536
        fails $disk direct, ${END} 1024
        fails $disk '' ${END - 2048} 4096
      done
      dd if=${BROKEN} bs=1024 iflag=direct,skip_bytes skip=${after} status=none |
        cmp - ${vm.data}/model 0 ${after}`.catch((error: unknown) => {
      throw new Error(`${option}: ${String(error)}`);
    });
    expect(await vm.sh`ublk del -a`, option).toBe("");
  }
  await vm.sh`dmsetup remove --retry bad`;
});
