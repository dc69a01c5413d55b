// Goal: a device made with recovery outlives its server, as the driver's three forms promise.
// Method: fio loads it, the server is killed, `recover` starts another; what fio and dd saw is
// what the form permits, and what was written is there.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

/** The long run is `UBLK_ROUNDS=10`: the whole matrix, as often as that. */
const ROUNDS = Number(process.env["UBLK_ROUNDS"] ?? 0);

type Kind = "-r" | "-i" | "-e";
const KINDS: Kind[] = ["-r", "-i", "-e"];
const TARGETS = ["null", "loop", "qcow2"];
const WAYS = ["--mode copy", "-z", "-b"];
const DEPTH = 16;
const LOAD = `--name=l --rw=randwrite --bs=4k --iodepth=${DEPTH} --ioengine=libaio --direct=1 --size=16M`;

/** Any two settings meet: with two of the three chosen, the third follows. */
function pairs(): [Kind, string, string][] {
  return KINDS.flatMap((kind, k) =>
    TARGETS.map((target, t): [Kind, string, string] => [kind, target, WAYS[(k + t) % 3]!]),
  );
}

function whole(): [Kind, string, string][] {
  return KINDS.flatMap((kind) =>
    TARGETS.flatMap((target) => WAYS.map((way): [Kind, string, string] => [kind, target, way])),
  );
}

async function make(vm: Vm, target: string): Promise<string> {
  if (target === "null") return "-t null --size 64M";
  const image = `${vm.data}/m.${target}`;
  if (target === "loop") await vm.sh`rm -f ${image}; truncate -s 64M ${image}`;
  else await vm.sh`qemu-img create -q -f qcow2 ${image} 64M`;
  return `-t ${target} -f ${image}`;
}

async function kill(vm: Vm, id: number): Promise<void> {
  await vm.sh`kill -KILL ${await vm.daemonPid(id)}`;
}

/** Waits until the device has IO in flight. */
async function busy(vm: Vm, id: number): Promise<void> {
  await vm.sh`until [ "$(mawk '{ print $9 }' /sys/block/ublkb${id}/stat)" -gt 0 ]; do
    sleep 0.05; done`;
}

async function killUnderLoad(vm: Vm, kind: Kind, target: string, way: string): Promise<void> {
  const what = `${kind} ${target} ${way}`;
  const id = await vm.add`${raw(await make(vm, target))} ${raw(kind)} ${raw(way)}`;
  const disk = `/dev/ublkb${id}`;
  const verify = kind === "-i" && target !== "null" ? "--verify=crc32c --verify_fatal=1" : "";
  const loops = "--continue_on_error=all --loops=2";
  const fio = vm.start`fio ${raw(LOAD)} ${raw(verify)} ${raw(loops)} --filename=${disk} --output-format=json`;
  await busy(vm, id);
  await kill(vm, id);
  await vm.becomes(id, kind === "-e" ? "FAIL_IO" : "QUIESCED", 60_000);
  if (kind === "-e") {
    const read = await vm.run`dd if=${disk} of=/dev/null bs=4k count=1 iflag=direct`;
    expect(read.stderr, what).toContain("Remote I/O error"); // BLK_STS_TARGET
  }
  const printed = await vm.sh`cd /tmp && ublk recover -n ${id}`;
  expect(printed, what).toContain(`daemon pid ${await vm.daemonPid(id)} state LIVE`);
  const [job] = JSON.parse((await fio.wait()).stdout.replace(/^[^{]*/, "")).jobs;
  if (kind === "-i") expect(job.total_err, what).toBe(0);
  if (kind === "-r") expect(job.total_err, what).toBeLessThanOrEqual(DEPTH);
  await vm.sh`dd if=${disk} of=/dev/null bs=4k count=16 iflag=direct status=none`;
  await vm.sh`ublk del -n ${id}`;
  if (target === "qcow2") await vm.sh`ublk check ${vm.data}/m.qcow2 > /dev/null || test $? = 3`;
}

story(
  "IO fails or waits as -r, -i and -e say when the server is killed, and goes on after recover",
  { timeout: 2400 },
  async (vm) => {
    const features = await vm.sh`ublk features`;
    for (let round = 0; round < Math.max(1, ROUNDS); round++) {
      for (const [kind, target, way] of ROUNDS > 0 ? whole() : pairs()) {
        if (kind === "-e" && !features.includes("RECOVERY_FAIL_IO")) continue;
        if (way === "-z" && !features.includes("AUTO_ZC")) continue;
        if (way === "-b" && !features.includes("BATCH_IO")) continue;
        const begun = Date.now();
        await killUnderLoad(vm, kind, target, way);
        console.log(`${kind} ${target} ${way}: ${Date.now() - begun} ms`);
      }
    }
  },
);

story(
  "the last write of a dead server is waited for: it cannot land on a newer one",
  {},
  async (vm) => {
    // 15 s until a write lands, long after the server that sent it is dead.
    const below = await vm.add`-t fault_inject --size 64M --delay-us write=15000000`;
    const id = await vm.add`-t loop -f /dev/ublkb${below} -i`;
    const writer = vm.start`dd if=/dev/zero of=/dev/ublkb${id} bs=4k count=1 oflag=direct status=none`;
    await busy(vm, below);
    const pid = await vm.daemonPid(id);
    const result = await vm.run`kill -KILL ${pid}; ublk recover -n ${id}`;
    expect(result.stderr).toContain("waiting for the driver to let go of device 1's last server");
    expect(result.status, result.stderr).toBe(0);
    expect((await writer.wait()).status).toBe(0);
    await vm.sh`ublk del -n ${id} && ublk del -n ${below}`;
  },
);
