// Goal: who comes from losetup, qemu-nbd or ublksrv finds his habits served.
// Method: every line of the README's table, as it is printed there, and what came of it.

import { expect } from "bun:test";
import { join } from "node:path";
import { raw, story, type Vm } from "./story.ts";

const README = await Bun.file(join(import.meta.dir, "../../README.md")).text();
const SIZE = 64 << 20;
const LONG = { timeout: 900 };

interface Row {
  line: string;
  /** The oldest kernel that has it; 0 for all. */
  from: number;
}

function rows(): Row[] {
  const part = README.split(/^### If you come from /m)[1]!.split(/^#/m)[0]!;
  const found = part.matchAll(/^\|[^|]*\| `(ublk [^`|]+)` *\| *([\d.]*) *\|$/gm);
  return [...found].map(([, line, from]) => ({ line: line!, from: rank(from || "0.0") }));
}

/** "6.16" comes after "6.9". */
function rank(kernel: string): number {
  const [major, minor] = kernel.split(".");
  return Number(major) * 1000 + Number(minor);
}

/** What the new device has to look like, going by the words: `said` is what add printed. */
function expectAsAsked(line: string, said: string): void {
  const option = (name: string): string | undefined => RegExp(` ${name} (\\S+)`).exec(line)?.[1];
  const [, id, queues, depth, block, sectors] =
    /^dev id (\d+): nr_hw_queues (\d+) queue_depth (\d+) block size (\d+) dev_capacity (\d+)/
      .exec(said)!
      .map(Number);
  const target = JSON.parse(/\ttarget (.*)/.exec(said)![1]!);
  expect([target.name, /state (\w+)/.exec(said)![1]], line).toEqual([option("-t"), "LIVE"]);
  if (Number(option("-n") ?? -1) >= 0) expect(id, line).toBe(Number(option("-n")));
  const wanted = option("-q") ?? option("--queue") ?? 1;
  expect([queues, depth], line).toEqual([Number(wanted), Number(option("-d") ?? 128)]);
  if (target.name === "loop") {
    const offset = option("-o") === undefined ? 0 : 1 << 20;
    expect(sectors! * 512, line).toBe(SIZE - offset);
    expect(target.direct_io, line).toBe(!line.includes("buffered"));
  }
  if (line.includes("4096")) expect(block, line).toBe(4096);
  if (line.includes("65536")) expect(said, line).toContain("max rq size 65536 ");
  const flags = /flags 0x[0-9a-f]+ \[ (.*) \]/.exec(said)![1]!;
  for (const [word, flag] of Object.entries(FLAGS)) {
    if (line.includes(word)) expect(` ${flags} `, line).toContain(` ${flag} `);
  }
}

const FLAGS = {
  "--usercopy": "USER_COPY",
  "--user_copy": "USER_COPY",
  " -g 1": "NEED_GET_DATA",
  "--need_get_data": "NEED_GET_DATA",
  " -z": "AUTO_ZC",
  "--zerocopy": "AUTO_ZC",
  " -b": "BATCH_IO",
  "--batch_io": "BATCH_IO",
  "--uring_comp": "URING_CMD_COMP_IN_TASK",
  " -i 1": "RECOVERY_REISSUE",
  " -e 1": "RECOVERY_FAIL_IO",
};

async function loseServer(vm: Vm): Promise<void> {
  await vm.sh`ublk add -n 0 -t null -r 1`;
  await vm.sh`kill -9 ${await vm.daemonPid(0)}`;
  await vm.becomes(0, "QUIESCED");
}

story("every line of the README's table of habits does what it says", LONG, async (vm) => {
  const all = rows();
  expect(all.length).toBeGreaterThan(25);
  const kernel = rank(vm.kernel.includes(".") ? vm.kernel : "99.0");
  let number = 0;
  for (const { line, from } of all) {
    if (kernel < from) continue;
    // Devices stay until one of a certain number is wanted, or is to go.
    if (line.includes(" -n ")) await vm.sh`ublk del -a`;
    if (/(del|list|set_affinity) -n (0|\/dev)/.test(line)) await vm.sh`ublk add -n 0 -t null`;
    if (line.includes("recover")) await loseServer(vm);
    const folder = `${vm.data}/${number++}`;
    await vm.sh`mkdir ${folder} && cd ${folder} && truncate -s ${SIZE} disk.img &&
      qemu-img create -q -f qcow2 vm.qcow2 ${SIZE}`;
    const said = await vm.sh`cd ${folder} && ${raw(line)}`;
    if (line.startsWith("ublk add")) expectAsAsked(line, said);
    else if (/^ublk (del|set_affinity)/.test(line)) expect(said, line).toBe("");
    else expect(said, line).not.toBe("");
    if (line.includes("--read-only")) {
      const disk = `/dev/ublkb${/dev id (\d+)/.exec(said)![1]}`;
      expect(await vm.sh`blockdev --getro ${disk}`).toBe("1");
    }
    if (line.startsWith("ublk del")) {
      await vm.sh`until test -z "$(ls /sys/class/ublk-char)"; do sleep 0.1; done`;
    }
  }
  await vm.sh`ublk del -a; while pgrep -x ublk; do sleep 0.1; done`;
});
