// Goal: a mounted file system never notices that the server below it dies, again and again.
// Method: ext4 on a qcow2 with -r -i; files are written and read while the server is killed and
// recovered; then fsck, checksums and qemu-img judge.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

/** The long run is `UBLK_ROUNDS=100`: see test/RESULTS.md. */
const ROUNDS = Number(process.env["UBLK_ROUNDS"] ?? 3);

/** Writes files, reads them back after their sync, and notes the checksum of each. */
const WRITER = `cd /mnt/r; i=0
while test ! -e /tmp/enough; do
  i=$((i + 1)); f=f$((i % 40))
  head -c $(( (i * 7919) % 400000 + 1 )) /tmp/noise > $f && sync $f || exit 1
  sum=$(sha256sum < $f) && echo "$f $sum" >> /tmp/sums || exit 1
done; echo $i`;

async function killAndRecover(vm: Vm, id: number, round: number): Promise<number> {
  await vm.sh`sleep 0.${round % 10}`;
  const pid = await vm.daemonPid(id);
  const begun = Date.now();
  await vm.sh`kill -KILL ${pid} && ublk recover -n ${id} > /dev/null`;
  return Date.now() - begun;
}

story("ext4 on a qcow2 lives through the deaths of its server", { timeout: 3000 }, async (vm) => {
  const image = `${vm.data}/r.qcow2`;
  await vm.sh`rm -f /tmp/enough /tmp/sums ${image} && qemu-img create -q -f qcow2 ${image} 200M`;
  const id = await vm.add`-t qcow2 -f ${image} -r -i`;
  const disk = `/dev/ublkb${id}`;
  await vm.sh`mkfs.ext4 -q ${disk} && mkdir -p /mnt/r && mount ${disk} /mnt/r`;
  await vm.sh`head -c 400000 /dev/urandom > /tmp/noise`;
  vm.patience = 2000;
  const writer = vm.start`${raw(WRITER)}`;
  const took: number[] = [];
  for (let round = 0; round < ROUNDS; round++) took.push(await killAndRecover(vm, id, round));
  await vm.sh`for try in $(seq 300); do
      [ "$(wc -l < /tmp/sums)" -gt ${ROUNDS} ] && break; sleep 0.2; done; touch /tmp/enough`;
  const files = Number(await writer.succeeds());
  const middle = took.toSorted((a, b) => a - b)[took.length >> 1];
  console.log(
    `${ROUNDS} deaths, ${files} files; kill to live: ${middle} ms, ${Math.max(...took)} at most`,
  );
  expect(files).toBeGreaterThan(ROUNDS);
  // Nothing of what is read now is in memory.
  await vm.sh`umount /mnt/r && echo 3 > /proc/sys/vm/drop_caches && fsck.ext4 -fn ${disk}`;
  await vm.sh`mount ${disk} /mnt/r && cd /mnt/r && tac /tmp/sums | mawk '!seen[$1]++' |
      while read file sum rest; do test "$(sha256sum < $file)" = "$sum  $rest" || { echo $file; exit 1; }; done`;
  // What the dead servers had taken and not used was given back by the last one.
  await vm.sh`umount /mnt/r && ublk del -n ${id} && ublk check ${image} && qemu-img check ${image}`;
});
