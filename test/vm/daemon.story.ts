// Goal: the daemon keeps out of everybody's way.
// Method: what /proc says of it, idle and busy.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

/** PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE: what PR_SET_IO_FLUSHER sets (include/linux/sched.h). */
const PF_IO_FLUSHER = 0x00080000 | 0x00100000;

story(
  "the daemon stands alone: session, directory, descriptors, mounts, OOM score",
  {},
  async (vm) => {
    await vm.sh`truncate -s 64M ${vm.data}/a.img`;
    const added =
      await vm.sh`cd ${vm.data} && exec 9</etc/passwd && ublk add -t loop -f a.img | cat`;
    expect(added).toContain(`"backing_file":"${vm.data}/a.img"`);
    const pid = await vm.daemonPid(0);
    expect(await vm.sh`readlink /proc/${pid}/cwd`).toBe("/");
    expect(await vm.sh`cat /proc/${pid}/oom_score_adj`).toBe("-1000");
    expect(await vm.sh`ps -o sid=,tty= -p ${pid} | tr -s ' '`).toMatch(RegExp(`^\\s*${pid} \\?$`));
    const files = await vm.sh`ls -l /proc/${pid}/fd | sed 's/.*-> //'`;
    expect(files).not.toContain("/etc/passwd");
    expect(files).not.toMatch(/pipe|pts|tty/);
    // Where `ublk resize` asks.
    expect(files.match(/socket/g)).toHaveLength(1);
    const mounts = await vm.sh`cut -d' ' -f5 /proc/${pid}/mountinfo | sort`;
    expect(mounts.split("\n")).toEqual(["/", "/dev", "/proc", "/run", "/sys"]);
    expect(await vm.sh`readlink /proc/${pid}/ns/mnt`).not.toBe(
      await vm.sh`readlink /proc/1/ns/mnt`,
    );
    expect(await vm.sh`stat -c %a /run/ublk /run/ublk/0.json`).toBe("700\n600");
    await vm.sh`umount ${vm.data} && mount /dev/vdb ${vm.data} && ublk del -n 0`;
  },
);

story("its caller's limits of CPU time and file size are not the daemon's", {}, async (vm) => {
  const image = `${vm.data}/u.img`;
  await vm.sh`truncate -s 64M ${image}`;
  await vm.sh`ulimit -f 1000; ulimit -t 100; ublk add -n 0 -t loop -f ${image}`;
  const limits = await vm.sh`cat /proc/${await vm.daemonPid(0)}/limits`;
  expect(limits).toMatch(/^Max cpu time +unlimited +unlimited/m);
  expect(limits).toMatch(/^Max file size +unlimited +unlimited/m);
  await vm.sh`dd if=/dev/zero of=/dev/ublkb0 bs=1M count=16 oflag=direct status=none`;
  await vm.sh`ublk del -n 0`;
});

/** All threads, also the runtime's own: a queue's thread may have to wait for them. */
async function promises(vm: Vm, pid: number): Promise<void> {
  const stats = await vm.sh`sed 's/.*) //' /proc/${pid}/task/*/stat | cut -d' ' -f7`;
  const flags = stats.split("\n").map(Number);
  expect(flags.length).toBeGreaterThan(3);
  for (const one of flags) expect(one & PF_IO_FLUSHER).toBe(PF_IO_FLUSHER);
}

story(
  "each queue's iods are mapped once and read-only, and its thread never waits for IO",
  {},
  async (vm) => {
    await vm.add`-t null --size 1G -q 2`;
    const pid = await vm.daemonPid(0);
    const maps = await vm.sh`grep /dev/ublkc0 /proc/${pid}/maps`;
    expect(maps.split("\n").map((line) => line.split(" ")[1])).toEqual(["r--s", "r--s"]);
    const [view] = JSON.parse(await vm.sh`ublk list -n 0 --json`);
    const cpus = [];
    for (const { tid, affinity } of view.queues) {
      const allowed = await vm.sh`grep Cpus_allowed_list /proc/${pid}/task/${tid}/status | cut -f2`;
      expect(allowed).toBe(affinity.join(","));
      cpus.push(...affinity);
    }
    expect(cpus.toSorted()).toEqual([0, 1]);
    await promises(vm, pid);
    await vm.sh`ublk del -n 0`;
    const foreground = vm.start`exec ublk add -t null --foreground`;
    await vm.becomes(0, "LIVE");
    await promises(vm, await vm.daemonPid(0));
    await vm.sh`ublk del -n 0`;
    await foreground.wait();
  },
);

/** Threads of the runtime end in the first seconds; then nothing happens any more. */
async function comesToRest(vm: Vm, pid: number): Promise<boolean> {
  const ticks = async (): Promise<number> => {
    const [user, system] = (await vm.sh`cut -d' ' -f14,15 /proc/${pid}/stat`).split(" ");
    return Number(user) + Number(system);
  };
  for (let window = 0, before = await ticks(); window < 3; window++) {
    await Bun.sleep(10_000);
    const now = await ticks();
    if (now - before <= 1) return true; // of 1000
    before = now;
  }
  return false;
}

story("an idle null device takes little memory and no CPU", {}, async (vm) => {
  await vm.add`-t null`;
  const pid = await vm.daemonPid(0);
  expect(await comesToRest(vm, pid)).toBe(true);
  const rss = Number((await vm.sh`grep VmRSS /proc/${pid}/status`).split(/\s+/)[1]);
  console.log(`resident memory of an idle null device: ${(rss / 1024).toFixed(1)} MiB`);
  expect(rss).toBeLessThan(40 << 10);
  await vm.sh`ublk del -n 0`;
});

story("nothing in the current directory or the environment changes what runs", {}, async (vm) => {
  await vm.sh`mkdir -p ${vm.data}/trap && cd ${vm.data}/trap &&
    echo 'preload = ["./evil.ts"]' > bunfig.toml && echo 'LD_X=1' > .env &&
    echo 'require("fs").writeFileSync("/tmp/owned", "x")' > evil.ts && cp evil.ts evil.js`;
  const tries = [
    "",
    "BUN_OPTIONS='--preload ./evil.ts'",
    "BUN_INSPECT_PRELOAD=./evil.ts",
    "BUN_PRELOAD=./evil.ts",
    "NODE_OPTIONS='--require ./evil.js'",
  ];
  for (const env of tries) {
    await vm.run`cd ${vm.data}/trap && ${raw(env)} ublk add -t null --size 1G`;
    await vm.run`ublk del -a`;
    expect(await vm.sh`ls /tmp/owned 2>/dev/null || true`, env).toBe("");
  }
});
