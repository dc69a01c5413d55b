// Goal: a server that is killed costs leaked clusters at the most, and nothing that was flushed.
// Method: a writer notes each block that was acknowledged as durable, fio loads the disk beside it,
// and the server is killed; qemu-img judges the image and reads the blocks back.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

/** The long run is `UBLK_ROUNDS=10`: see test/RESULTS.md. */
const ROUNDS = Number(process.env["UBLK_ROUNDS"] ?? 2);

/** Writes blocks until it cannot, and notes each one that was acknowledged as durable. */
const WRITER = `
i=0
while :; do
  at=$(( (i * 7919 + ROUND * 31) % 16384 ))
  printf '%08d-%08d-%4080s' ROUND $i x > /tmp/block
  dd if=/tmp/block of=DISK bs=4096 count=1 seek=$at oflag=direct,dsync \\
    conv=notrunc,nocreat status=none || exit
  echo "$at ROUND $i" >> /tmp/log
  i=$((i + 1))
done`;

story(
  "killed again and again under load, an image leaks at worst and keeps what was flushed",
  { timeout: 900 },
  async (vm) => {
    const image = `${vm.data}/k.qcow2`;
    await vm.sh`qemu-img create -q -f qcow2 -o cluster_size=64k ${image} 256M && : > /tmp/log`;
    for (let round = 1; round <= ROUNDS; round++) await killedRound(vm, image, round);
    await vm.sh`ublk check --repair leaks ${image}`;
    await vm.sh`qemu-img check -q ${image}`;
  },
);

async function killedRound(vm: Vm, image: string, round: number): Promise<void> {
  const id = await vm.add`-t qcow2 -f ${image}`;
  const disk = `/dev/ublkb${id}`;
  const script = WRITER.replaceAll("ROUND", String(round)).replaceAll("DISK", disk);
  const writer = vm.start`sh -c ${script}`;
  const load = "--rw=randwrite --bs=8k --iodepth=16 --ioengine=libaio --direct=1 --time_based";
  const where = `--offset=128M --size=100M --allow_file_create=0 --filename=${disk}`;
  const fio = vm.start`fio --name=l ${raw(load)} ${raw(where)} --runtime=60`;
  // Both are at work by then: a writer alone does not come that far.
  await vm.sh`until [ "$(mawk '{ print $5 }' /sys/block/ublkb${id}/stat)" -gt 400 ]; do
    sleep 0.1; done; sleep 0.${round % 5}`;
  const [view] = JSON.parse(await vm.sh`ublk list -n ${id} --json`);
  await vm.sh`kill -KILL ${view.ublksrv_pid}`;
  await vm.becomes(id, "DEAD", 60_000);
  await vm.sh`ublk del -n ${id}`;
  await writer.wait();
  await fio.wait();
  const status = await vm.sh`qemu-img check ${image} > /tmp/check 2>&1; echo $?`;
  expect(["0", "3"], await vm.sh`tail -n 20 /tmp/check`).toContain(status);
  // The last that was acknowledged in each place is there.
  await vm.sh`qemu-img convert -O raw ${image} ${image}.raw`;
  await vm.sh`test -s /tmp/log && tac /tmp/log | mawk '!seen[$1]++' | while read at round i; do
      want=$(printf '%08d-%08d' $round $i)
      got=$(dd if=${image}.raw bs=4096 skip=$at count=1 status=none | head -c 17)
      if [ "$want" != "$got" ]; then echo "block $at: $got, not $want"; exit 1; fi
    done`;
}
