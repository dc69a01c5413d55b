// Goal: another server takes over a live device, and nobody above notices more than a pause.
// Method: fio checks what it reads while `ublk upgrade` runs again and again; the longest time
// that a request took which ended meanwhile is the pause.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

const EINTR = 4;
/** The long run is `UBLK_ROUNDS=20`: see test/RESULTS.md. */
const ROUNDS = Number(process.env["UBLK_ROUNDS"] ?? 2);
const LOAD =
  "--name=u --rw=randwrite --bs=4k --ioengine=libaio --direct=1 --size=32M --time_based --output-format=json";
/** The slowest request of every 100 ms, one line each: ms since 1970, ns, ... */
const LATENCIES = "--write_lat_log=/tmp/u --log_avg_msec=100 --log_max_value=1 --log_unix_epoch=1";

async function begin(vm: Vm, add: string): Promise<number> {
  const image = `${vm.data}/u.img`;
  await vm.sh`rm -f ${image}; truncate -s 32M ${image}`;
  return await vm.add`-t loop -f ${image} ${raw(add)}`;
}

interface Upgrade {
  /** In the guest's ms since 1970. */
  begun: number;
  ended: number;
}

async function upgrade(vm: Vm, id: number): Promise<Upgrade> {
  const before = await vm.daemonPid(id);
  const printed = await vm.sh`cd /; date +%s%3N && ublk upgrade -n ${id} 2>&1 && date +%s%3N`;
  const after = await vm.daemonPid(id);
  expect(after).not.toBe(before);
  expect(printed).toContain(`daemon pid ${after} state LIVE`);
  expect(printed).not.toContain("killed");
  await vm.sh`test ! -e /proc/${before}`;
  const lines = printed.trim().split("\n");
  return { begun: Number(lines[0]), ended: Number(lines.at(-1)) };
}

/** Upgrades under load. */
async function upgrades(vm: Vm, id: number, depth: number): Promise<Upgrade[]> {
  const seconds = 60 * (ROUNDS + 1); // it is told to end before that
  const fio = vm.start`rm -f /tmp/u_*; fio ${raw(LOAD)} ${raw(LATENCIES)} --verify=crc32c --verify_backlog=64 --verify_fatal=1 --iodepth=${depth} --runtime=${seconds} --filename=/dev/ublkb${id}`;
  await vm.sh`until [ "$(mawk '{ print $1 + $5 }' /sys/block/ublkb${id}/stat)" -gt 300 ]; do sleep 0.1; done`;
  const done: Upgrade[] = [];
  for (let round = 0; round < ROUNDS; round++) done.push(await upgrade(vm, id));
  await vm.sh`kill -INT $(pgrep -x fio | head -1) || true`;
  const { stdout } = await fio.wait();
  const [job] = JSON.parse(stdout.replace(/^[^{]*/, "")).jobs;
  // A request that fails, or reads other than what was written, is an error of the job.
  expect([0, EINTR]).toContain(job.error);
  return done;
}

/** The slowest request of each upgrade, in ms: the moment in which a line ends may be the next. */
async function stalls(vm: Vm, done: Upgrade[]): Promise<number[]> {
  const log = (await vm.sh`cat /tmp/u_clat.*.log`).trim().split("\n");
  const slow = log.map((line) => line.split(",").map(Number));
  return done.map(({ begun, ended }) => {
    const during = slow.filter(([at]) => at! >= begun && at! <= ended + 200);
    return Math.round(Math.max(...during.map(([, ns]) => ns!)) / 1e6);
  });
}

const middle = (numbers: number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;

/** For the record. */
async function tell(vm: Vm, add: string, done: Upgrade[]): Promise<void> {
  const took = middle(done.map(({ begun, ended }) => ended - begun));
  const paused = await stalls(vm, done);
  expect(Math.min(...paused)).toBeGreaterThan(0);
  const pause = `${middle(paused)} ms (middle), ${Math.max(...paused)} ms (longest)`;
  console.log(`${add}: ${done.length} upgrades of ${took} ms (middle), stalls of ${pause}`);
}

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
      await tell(vm, add, await upgrades(vm, id, depth));
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
    await tell(vm, "-i -b", await upgrades(vm, id, 16));
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
