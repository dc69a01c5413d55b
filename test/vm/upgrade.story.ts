// Goal: another server takes over a live device, and nobody above notices more than a pause.
// Method: fio checks what it reads while `ublk upgrade` runs again and again; the longest time
// that one of its requests took is the pause.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

const EINTR = 4;
/** The long run is `UBLK_ROUNDS=20`: see test/RESULTS.md. */
const ROUNDS = Number(process.env["UBLK_ROUNDS"] ?? 2);
const LOAD =
  "--name=u --rw=randwrite --bs=4k --ioengine=libaio --direct=1 --size=32M --time_based --output-format=json";

async function begin(vm: Vm, add: string): Promise<number> {
  const image = `${vm.data}/u.img`;
  await vm.sh`rm -f ${image}; truncate -s 32M ${image}`;
  return await vm.add`-t loop -f ${image} ${raw(add)}`;
}

interface Job {
  error: number;
  read: { clat_ns: { max: number } };
  write: { clat_ns: { max: number } };
}

/** Upgrades under load; answers fio's report and how long the upgrades took, in ms. */
async function upgrades(vm: Vm, id: number, depth: number): Promise<[Job, number[]]> {
  const seconds = 60 * (ROUNDS + 1); // it is told to end before that
  const fio = vm.start`fio ${raw(LOAD)} --verify=crc32c --verify_backlog=64 --verify_fatal=1 --iodepth=${depth} --runtime=${seconds} --filename=/dev/ublkb${id}`;
  await vm.sh`until [ "$(mawk '{ print $1 + $5 }' /sys/block/ublkb${id}/stat)" -gt 300 ]; do sleep 0.1; done`;
  const took: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const before = await vm.daemonPid(id);
    const begun = Date.now();
    const printed = await vm.sh`cd / && ublk upgrade -n ${id} 2>&1`;
    took.push(Date.now() - begun);
    const after = await vm.daemonPid(id);
    expect(after).not.toBe(before);
    expect(printed).toContain(`daemon pid ${after} state LIVE`);
    expect(printed).not.toContain("killed");
    await vm.sh`test ! -e /proc/${before}`;
  }
  await vm.sh`kill -INT $(pgrep -x fio | head -1) || true`;
  const { stdout } = await fio.wait();
  const job: Job = JSON.parse(stdout.replace(/^[^{]*/, "")).jobs[0];
  // A request that fails, or reads other than what was written, is an error of the job.
  expect([0, EINTR]).toContain(job.error);
  return [job, took];
}

const slowest = ({ read, write }: Job): number =>
  Math.round(Math.max(read.clat_ns.max, write.clat_ns.max) / 1e6);

for (const [depth, add] of [
  [8, "-r -d 32 --mode copy"],
  [16, "-r -d 4 -q 2"],
  [8, "-r -d 16 -g"],
] as const) {
  story(
    `fio sees no error while ${add} is upgraded, ${depth} requests in flight`,
    { features: ["UBLK_F_QUIESCE"], timeout: 1800 },
    async (vm) => {
      vm.patience = 1200;
      const id = await begin(vm, add);
      const [job, took] = await upgrades(vm, id, depth);
      const middle = took.toSorted((a, b) => a - b)[took.length >> 1];
      console.log(`${add}: upgrade ${middle} ms (middle), longest request ${slowest(job)} ms`);
      await vm.sh`ublk del -n ${id}`;
    },
  );
}

story(
  "a batch device is upgraded by the death of its server, where IO is issued again",
  { features: ["UBLK_F_BATCH_IO"], timeout: 900 },
  async (vm) => {
    vm.patience = 600;
    const id = await begin(vm, "-i -b");
    await upgrades(vm, id, 16);
    await vm.sh`ublk del -n ${id}`;
    const other = await begin(vm, "-r -b");
    const refused = await vm.run`ublk upgrade -n ${other}`;
    expect(refused.stderr).toContain("QUIESCE_DEV makes the IO of batch devices fail");
    expect(refused.status).toBe(1);
    await vm.sh`ublk del -n ${other}`;
  },
);

story(
  "a server that does not leave is ended, and the device goes on",
  {
    features: ["UBLK_F_QUIESCE"],
  },
  async (vm) => {
    const id = await begin(vm, "-i");
    const pid = await vm.daemonPid(id);
    await vm.sh`kill -STOP ${pid}`;
    const said = await vm.sh`ublk upgrade -n ${id} 2>&1`;
    expect(said).toContain(`process ${pid} does not leave: it is killed`);
    await vm.sh`dd if=/dev/ublkb${id} of=/dev/null bs=4k count=1 iflag=direct status=none`;
    await vm.sh`ublk del -n ${id}`;
  },
);
