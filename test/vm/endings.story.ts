// Goal: a device ends cleanly, however it ends and whatever is going on.
// Method: fio loads the device; it is deleted, its daemon is told to stop, or is killed, round
// after round; after each round nothing is left and the next add works.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

/** The long run is `UBLK_ROUNDS=20`: see test/RESULTS.md. */
const ROUNDS = Number(process.env["UBLK_ROUNDS"] ?? 3);
const LOAD = "--rw=randrw --bs=4k --iodepth=64 --ioengine=libaio --direct=1 --time_based";

type Ending = (id: number, pid: string) => Promise<unknown>;

const SLOW = { timeout: 900 };

async function underLoad(vm: Vm, add: string, end: Ending): Promise<void> {
  const image = `${vm.data}/e.img`;
  const id = 3;
  await vm.sh`truncate -s 256M ${image}`;
  for (let round = 1; round <= ROUNDS; round++) {
    await vm.sh`ublk add -n ${id} ${raw(add)} -f ${image}`;
    const fio = vm.start`fio --name=l ${raw(LOAD)} --runtime=60 --filename=/dev/ublkb${id}`;
    await busy(vm, id);
    const pid = await vm.sh`pgrep -f ${`"id":${id},`}`;
    await end(id, pid);
    expect((await fio.wait()).status, `round ${round}: fio must notice`).not.toBe(0);
    // The process may still have to be reaped, but it runs nothing.
    await vm.sh`for left in /dev/ublk[bc]${id} /run/ublk/${id}.json /proc/${pid}/exe; do
      if test -e $left; then echo $left; exit 1; fi; done`;
  }
}

/** Waits until the device has IO in flight. */
async function busy(vm: Vm, id: number): Promise<void> {
  await vm.sh`until [ "$(cut -c1-9 < /sys/block/ublkb${id}/inflight | tr -d ' ')" -gt 0 ]; do
    sleep 0.05; done`;
}

story("del under load ends the device and its daemon, again and again", SLOW, (vm) =>
  underLoad(vm, "-t loop", async (id) => expect(await vm.sh`ublk del -n ${id}`).toBe("")),
);

story("SIGTERM under load deletes the device, again and again", SLOW, (vm) =>
  underLoad(vm, "-t loop -q 2", async (_, pid) => {
    await vm.sh`kill -TERM ${pid} && while test -e /proc/${pid}; do sleep 0.05; done`;
  }),
);

story("kill -9 under load leaves a dead device that del removes, again and again", SLOW, (vm) =>
  underLoad(vm, "-t loop -q 2", async (id, pid) => {
    await vm.sh`kill -KILL ${pid}`;
    await vm.becomes(id, "DEAD", 60_000);
    expect(await vm.sh`ublk del -n ${id}`).toBe("");
  }),
);

story(
  "a daemon that is killed while it ends its device leaves nothing that hangs",
  {},
  async (vm) => {
    await vm.sh`truncate -s 256M ${vm.data}/k.img`;
    for (const delay of ["0", "0.3", "0.6", "0.9", "1.2"]) {
      const id = await vm.add`-t loop -f ${vm.data}/k.img`;
      const fio = vm.start`fio --name=l ${raw(LOAD)} --runtime=60 --filename=/dev/ublkb${id}`;
      await busy(vm, id);
      const pid = await vm.daemonPid(id);
      await vm.sh`kill -TERM ${pid}; sleep ${delay}; kill -KILL ${pid} || true`;
      expect((await fio.wait()).status).not.toBe(0);
      await vm.sh`while test -e /proc/${pid}; do sleep 0.1; done`;
      // Killed before it had heard of its end, it leaves a dead device; later, its helper goes on.
      await vm.run`ublk del -n ${id}`;
      await vm.sh`while test -e /dev/ublkc${id}; do sleep 0.1; done`;
    }
    expect(await vm.sh`ls -A /run/ublk; ublk list`).toBe("");
  },
);

story("SIGINT ends a device in the foreground, and nothing of it is left", {}, async (vm) => {
  const served = vm.start`cd ${vm.data} && exec ublk add -t null --size 1G --foreground`;
  await vm.becomes(0, "LIVE");
  expect(await vm.sh`readlink /proc/${await vm.daemonPid(0)}/cwd`).toBe("/");
  while (!served.soFar().stdout.includes("\ttarget {")) await Bun.sleep(50);
  expect(await vm.sh`ublk list -n 0`).toBe(served.soFar().stdout.trim());
  await vm.sh`kill -INT ${await vm.daemonPid(0)}`;
  expect((await served.wait()).status).toBe(0);
  expect(await vm.sh`ls -A /run/ublk; ublk list`).toBe("");
});

story("a signal that was ignored at the start ends no server; SIGTERM does", {}, async (vm) => {
  const served = vm.start`trap '' HUP; exec ublk add -t null --size 1G --foreground`;
  await vm.becomes(0, "LIVE");
  const pid = await vm.daemonPid(0);
  await vm.sh`kill -HUP ${pid}; sleep 1`;
  await vm.sh`dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct status=none`;
  await vm.sh`kill -TERM ${pid}`;
  expect((await served.wait()).status).toBe(0);
  expect(await vm.sh`ls -A /run/ublk; ublk list`).toBe("");
});

story(
  "del -a ends what nobody has open, whatever else is open, and the upper first",
  {},
  async (vm) => {
    const used = await vm.add`-t null --size 64M`;
    const below = await vm.add`-t null --size 64M`;
    const above = await vm.add`-t loop -f /dev/ublkb${below}`;
    const user = vm.start`exec 3< /dev/ublkb${used}; touch /tmp/has; sleep 600`;
    await vm.sh`until test -e /tmp/has; do sleep 0.05; done; rm /tmp/has`;
    const all = vm.start`ublk del -a`;
    await vm.sh`while test -e /dev/ublkc${above} || test -e /dev/ublkc${below}; do sleep 0.1; done`;
    await user.signal("KILL");
    await user.wait();
    await all.succeeds();
    expect(await vm.sh`ls -A /run/ublk; ublk list`).toBe("");
  },
);

story("a device can be added while another one is deleted, again and again", {}, async (vm) => {
  await Promise.all(
    [0, 1, 2, 3].map(async (id) => {
      for (let round = 0; round < ROUNDS; round++) {
        await vm.sh`ublk add -t null -n ${id} --size 1G && ublk del -n ${id}`;
      }
    }),
  );
  expect(await vm.sh`ls -A /run/ublk; ublk list`).toBe("");
});

const NOTHING = `ls -A /run/ublk; ls /sys/class/ublk-char 2> /dev/null || true;
  ls /dev | grep ublk[bc] || true; pgrep -x 'ublk|ublk-watch|exe' || true`;

/** All ends by itself, at the latest after some seconds. */
async function comesToNothing(vm: Vm): Promise<void> {
  for (let tries = 0; tries < 100 && (await vm.sh`${raw(NOTHING)}`) !== ""; tries++) {
    await Bun.sleep(100);
  }
  expect(await vm.sh`${raw(NOTHING)}`).toBe("");
}

/** A shell's words for: as soon as ADD_DEV has been done. */
const BORN = "until test -e /sys/class/ublk-char/ublkc0; do :; done";

story("a device that is deleted while it begins is gone, and add says so", {}, async (vm) => {
  for (const delay of ["0", "0.05", "0.3"]) {
    const add = vm.start`exec timeout 100 ublk add -t null -n 0 -r`;
    await vm.sh`${raw(BORN)}; sleep ${delay}; timeout 100 ublk del -n 0`;
    const { status, stderr } = await add.wait();
    console.log(`deleted ${delay} s after ADD_DEV: add ends with ${status}, ${stderr.trim()}`);
    // What was live is not there any more when `add` wants to show it.
    const line = /was deleted before|was told to stop before|no ublk device 0/;
    if (status !== 0) expect(stderr).toMatch(line);
    expect([0, 1]).toContain(status);
    await comesToNothing(vm);
  }
  // Of those who add, some come too late for it, and some take a number that has become free.
  const all = vm.start`for i in 1 2 3 4 5 6 7 8; do timeout 100 ublk add -t null > /dev/null & pids="$pids $!"; done
    for pid in $pids; do wait $pid; echo $?; done`;
  const statuses: number[] = [];
  for (let round = 0; round < 3; round++) {
    statuses.push((await vm.run`sleep 0.3; timeout 100 ublk del -a`).status);
  }
  statuses.push(...(await all.wait()).stdout.trim().split("\n").map(Number));
  console.log(`three del -a and eight add end with ${statuses.join(" ")}`);
  for (const status of statuses) expect([0, 1]).toContain(status);
  await vm.sh`timeout 100 ublk del -a`;
  await comesToNothing(vm);
});

story("a number that is taken as soon as it is free is the next device's", {}, async (vm) => {
  const add = "timeout 100 ublk add -t null -n 0 > /dev/null 2>&1";
  await vm.sh`${raw(add)}`;
  for (let round = 0; round < 2 * ROUNDS; round++) {
    const next = vm.start`until ${raw(add)}; do :; done`;
    await vm.sh`sleep 0.${round % 10}; timeout 60 ublk del -n 0`;
    await next.succeeds();
    expect(await vm.sh`test -e /run/ublk/0.json && ublk list -n 0`).toContain("state LIVE");
  }
  await vm.sh`ublk del -n 0`;
  await comesToNothing(vm);
});

story("who begins a device and who ends it take turns", {}, async (vm) => {
  const mine = "exec 9< /sys/class/ublk-char/ublkc0 && flock 9";
  const look = "test -e /dev/ublkb0 && echo live || echo not yet";
  const tooLate = "if test -e /dev/ublkb0; then echo too late; exit; fi";
  let said = "too late"; // for our turn: the server had its own already
  while (said === "too late") {
    await vm.run`ublk del -n 0`;
    const add = vm.start`exec timeout 100 ublk add -t null -n 0`;
    // By then its threads have fetched, and START_DEV is all that is missing.
    said = await vm.sh`${raw(BORN)}; ${raw(mine)}; ${raw(tooLate)}; sleep 4; ${raw(look)}`;
    expect((await add.wait()).status).toBe(0);
  }
  expect(said).toBe("not yet");
  const del = "timeout 100 ublk del -n 0 9<&- &";
  expect(await vm.sh`${raw(mine)}; ${raw(del)} sleep 4; ${raw(look)}`).toBe("live");
  await comesToNothing(vm);
});

story("--or-recover leaves a device alone whose server is about to begin", {}, async (vm) => {
  const add = vm.start`exec timeout 100 ublk add -t null -n 0 -r`;
  const other = await vm.run`${raw(BORN)}; timeout 100 ublk add -t null -n 0 --or-recover`;
  expect((await add.wait()).status).toBe(0);
  expect(other.stderr).toMatch(/device 0: is served already, by process/);
  expect(await vm.sh`ublk list -n 0`).toContain("state LIVE");
  // One that was stopped is another matter.
  await vm.sh`ublk stop -n 0 && ublk add -t null -n 0 --or-recover && ublk del -n 0`;
  await comesToNothing(vm);
});

story("a device whose add has gone is deleted, and a foreground server serves", {}, async (vm) => {
  for (const options of ["", "--supervise"]) {
    await vm.run`ublk add -t null -n 0 ${raw(options)} & ${raw(BORN)}; kill -KILL $!; wait`;
    await comesToNothing(vm);
  }
  for (const out of ["> /dev/full", "2>&1 | true"]) {
    const served = vm.start`ublk add -t null -q 64 --foreground ${raw(out)}`;
    await vm.becomes(0, "LIVE");
    const pid = await vm.daemonPid(0);
    // It has tried to print when it is at rest.
    await vm.sh`sleep 1; dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct status=none`;
    expect(await vm.daemonPid(0), out).toBe(pid);
    await vm.sh`kill -TERM ${pid}`;
    await served.wait();
    await comesToNothing(vm);
  }
});

story(
  "an upgrade whose caller has gone serves all the same",
  { features: ["UBLK_F_USER_RECOVERY_REISSUE"] },
  async (vm) => {
    await vm.add`-t null -n 0 -i`;
    const pid = await vm.daemonPid(0);
    await vm.run`ublk upgrade -n 0 & until test -e /run/ublk/0.takeover; do :; done; kill -KILL $!; wait`;
    await vm.sh`while test -e /run/ublk/0.takeover; do sleep 0.05; done; sleep 1`;
    await vm.sh`dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct status=none`;
    expect(await vm.daemonPid(0)).not.toBe(pid);
    await vm.sh`ublk del -n 0`;
    await comesToNothing(vm);
  },
);
