// Goal: what `ublk stat` says is what happened.
// Method: fio sends a known number of requests; the counters, the histograms, the rates and the
// Prometheus text have to say so, also when the server is under load and when it is gone.

import { expect } from "bun:test";
import { raw, story } from "./story.ts";

const READS = "--name=r --rw=randread --bs=4k --size=16M --io_size=8M --iodepth=16";
const WRITES = "--name=w --rw=write --bs=64k --size=16M --io_size=4M --fsync=16 --offset=32M";
const BUSY = "--name=b --rw=randread --bs=4k --size=16M --time_based --runtime=300 --iodepth=8";
const FIO = "--ioengine=libaio --direct=1 --invalidate=0 --output-format=terse --stonewall";

story("counters say what fio did", {}, async (vm) => {
  await vm.sh`truncate -s 64M ${vm.data}/s.img`;
  // Where partitions are read later than START_DEV, nobody must: it would be counted.
  const later = (await vm.sh`ublk features`).includes("NO_AUTO_PART_SCAN");
  const quiet = raw(later ? "--no-auto-part-scan" : "");
  const id = await vm.add`-t loop -f ${vm.data}/s.img -q 2 ${quiet}`;
  expect(await vm.sh`stat -c %a /run/ublk/${id}.stat`).toBe("600");
  const stat = async () => JSON.parse(await vm.sh`ublk stat -n ${id} --json`)[0];
  const before = await stat();
  await vm.sh`fio --filename=/dev/ublkb${id} ${raw(FIO)} ${raw(READS)} ${raw(WRITES)}`;
  const after = await stat();
  const ios = (op: string) => after.ops[op].ios - before.ops[op].ios;
  expect([ios("read"), ios("write")]).toEqual([2048, 64]);
  expect(after.ops.read.bytes - before.ops.read.bytes).toBe(8 << 20);
  expect(after.ops.write.bytes - before.ops.write.bytes).toBe(4 << 20);
  expect(ios("flush")).toBeGreaterThanOrEqual(3);
  const { histogram, latency_p50_us: p50, latency_mean_us: mean, errors } = after.ops.read;
  expect(histogram.reduce((sum: number, one: number) => sum + one, 0)).toBe(after.ops.read.ios);
  expect(p50).toBeLessThanOrEqual(after.ops.read.latency_p99_us);
  expect(mean).toBeWithin(5, 1e6);
  expect([errors, after.in_flight]).toEqual([0, 0]);
  expect(after.target).toBe("loop");

  const busy = vm.start`fio --filename=/dev/ublkb${id} ${raw(FIO)} ${raw(BUSY)}`;
  while ((await stat()).ops.read.ios < after.ops.read.ios + 50) await Bun.sleep(100);
  const lines = await vm.sh`ublk stat -n ${id} -i 2 -c 3 --json`;
  await busy.signal("INT");
  await busy.wait();
  const looks = lines.split("\n").map((line) => JSON.parse(line)[0]);
  expect(looks).toHaveLength(3);
  for (const look of looks) {
    expect(look.seconds).toBeWithin(1.9, 30);
    expect(look.ops.read.iops).toBeGreaterThan(0);
    // The threads go on counting while a look adds up.
    expect(look.total.bytes_per_second / look.total.iops).toBeWithin(4000, 4200);
    expect(look.queue_depth).toBeGreaterThan(0.001);
  }
  // The first may have seen requests end that had begun before it.
  for (const look of looks.slice(1)) expect(look.queue_depth).toBeLessThanOrEqual(16);
  expect(await vm.sh`ublk stat`).toMatch(/^DEVICE +TYPE +OP .*\n\/dev\/ublkb0 +loop +all /);
  expect(await vm.sh`ublk stat --histogram`).toMatch(/\/dev\/ublkb0 read\n.*\n.*< .*#/);

  await vm.sh`ublk stat --metrics ${vm.data}/m.prom`;
  const prom = await vm.sh`cat ${vm.data}/m.prom`;
  const counted = (await stat()).ops.write;
  expect(prom).toContain(`ublk_bytes_total{device="ublkb0",op="write"} ${counted.bytes}\n`);
  expect(prom).toContain(`le="+Inf"} ${counted.ios}\n`);
  expect(await vm.sh`ls ${vm.data} | grep prom`).toBe("m.prom");
  await vm.sh`ublk stat --metrics /dev/null && test -c /dev/null`;
  expect(await vm.sh`ublk stat --metrics /proc/self/fd/1 | grep -c ublk_info{`).toBe("1");
  await vm.sh`ublk del -n ${id}; ! test -e /run/ublk/${id}.stat`;
  expect(await vm.sh`ublk stat`).toBe("no devices that are counted");
});

story("list on a terminal is a table, with what has lost its server", {}, async (vm) => {
  const onTerminal = async (command: string) => {
    const shown = await vm.sh`script -qec ${command} /dev/null </dev/null`;
    return shown.split("\r\n").map((line) => line.trim());
  };
  await vm.sh`mkdir -p /dev/pts && mount -t devpts devpts /dev/pts`;
  expect(await onTerminal("ublk list")).toEqual(["no devices; ublk add makes one (ublk help add)"]);
  await vm.sh`truncate -s 64M ${vm.data}/t.img`;
  const live = await vm.add`-t loop -f ${vm.data}/t.img --read-only --mode copy -q 2 -d 32`;
  const waits = await vm.add`-t null --size 1536M --mode user-copy -r`;
  const dead = await vm.add`-t null --size 4K --mode copy`;
  const pid = await vm.daemonPid(live);
  await vm.sh`kill -KILL ${await vm.daemonPid(waits)} ${await vm.daemonPid(dead)}`;
  await vm.becomes(waits, "QUIESCED", 60_000);
  await vm.becomes(dead, "DEAD", 60_000);
  const lines = await onTerminal("ublk list");
  expect(lines.map((line) => line.split(/ +/))).toEqual([
    ["DEVICE", "SIZE", "TYPE", "STATE", "MODE", "QUEUES", "PID", "FILE"],
    [`/dev/ublkb${live}`, "64M", "loop", "LIVE,ro", "copy", "2x32", `${pid}`, `${vm.data}/t.img`],
    [`/dev/ublkb${waits}`, "1.5G", "null", "QUIESCED", "user-copy", "1x128", "-"],
    [`/dev/ublkb${dead}`, "4K", "null", "DEAD", "copy", "1x128", "-"],
  ]);
  const state = lines[0]!.indexOf("STATE");
  expect(lines.map((line) => line.slice(state - 1, state + 2))).toEqual([
    ...[" ST", " LI", " QU", " DE"],
  ]);
  const [block = ""] = await onTerminal(`ublk list -n ${dead} -v`);
  expect(block).toStartWith(`dev id ${dead}: nr_hw_queues 1`);
  await vm.sh`ublk del -a && umount /dev/pts && rmdir /dev/pts`;
});
