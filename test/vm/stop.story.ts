// Goal: stop, del and recover do the right thing in every state, and say what they refuse.
// Method: a device is brought into each state, and each verb is tried on it.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

async function refused(vm: Vm, command: string, line: RegExp): Promise<void> {
  const result = await vm.run`${raw(command)}`;
  expect(result.stderr, command).toMatch(line);
  expect(result.stderr.trim().split("\n").length, result.stderr).toBeLessThanOrEqual(2);
  expect([result.status, result.stdout], command).toEqual([1, ""]);
}

async function quiesced(vm: Vm): Promise<number> {
  const id = await vm.add`-t null --size 64M -r`;
  await vm.sh`kill -KILL ${await vm.daemonPid(id)}`;
  await vm.becomes(id, "QUIESCED", 60_000);
  return id;
}

/** A server between START_USER_RECOVERY and END_USER_RECOVERY: it has the char device open. */
async function halfRecovered(vm: Vm): Promise<number> {
  const id = await quiesced(vm);
  void vm.start`exec 3<> /dev/ublkc${id}; sleep 4`;
  await vm.sh`sleep 1`;
  return id;
}

story("what cannot be recovered is refused with a reason", {}, async (vm) => {
  const plain = await vm.add`-t null --size 64M`;
  await refused(vm, `ublk recover -n ${plain}`, /device \d: was made without recovery[^]*-r, -i/);
  await refused(vm, `ublk upgrade -n ${plain}`, /was made without recovery/);
  await refused(vm, "ublk recover -n 99", /ENODEV[^]*no ublk device 99/);
  const id = await vm.add`-t null --size 64M -r`;
  const pid = await vm.daemonPid(id);
  await refused(vm, `ublk recover -n ${id}`, RegExp(`is served already, by process ${pid}`));
  await vm.sh`ublk stop -n ${id}`;
  expect(await vm.sh`ublk list -n ${id}`).toContain("daemon pid -1 state DEAD");
  await vm.sh`test ! -e /proc/${pid}/exe && test ! -e /dev/ublkb${id} && ublk stop -n ${id}`;
  await refused(vm, `ublk recover -n ${id}`, /is DEAD[^]*ublk del -n/);
  await vm.sh`ublk del -a`;
  expect(await vm.sh`ls -A /run/ublk; ublk list; ublk recover -a; ublk upgrade -a`).toBe("");
});

story("a state file that is not ours is not believed, and recover says why", {}, async (vm) => {
  const id = await quiesced(vm);
  const file = `/run/ublk/${id}.json`;
  await vm.sh`cp ${file} /tmp/good`;
  for (const [spoil, why] of [
    [`head -c 100 /tmp/good > ${file}`, /is no JSON object/],
    [`sed 's/"dev_id": ${id}/"dev_id": 7/' /tmp/good > ${file}`, /speaks of device 7/],
    [`sed 's/"size": 67108864/"size": "x"/' /tmp/good > ${file}`, /no configuration of type null/],
    [`sed 's/"name": "null"/"name": "tape"/' /tmp/good > ${file}`, /is of type 'tape'/],
    [`sed 's/"pollUs": 0/"pollUs": []/' /tmp/good > ${file}`, /has no sound "serving"/],
    [`rm ${file}; ln -s /tmp/good ${file}`, /is a symbolic link/],
    [`rm ${file}; mkfifo ${file}`, /is no regular file/],
    [`rm ${file}; cp /tmp/good ${file}; chown 1000 ${file}`, /belongs to user 1000/],
    [`rm ${file}; cp /tmp/good ${file}; chmod 666 ${file}`, /can be written to by others/],
    [`rm ${file}`, /is not there[^]*ublk del gives it up/],
    [`cp /tmp/good ${file}; chmod 777 /run/ublk`, /state directory \/run\/ublk/],
  ] as const) {
    await vm.sh`${raw(spoil)}`;
    await refused(vm, `ublk recover -n ${id}`, why);
  }
  await vm.sh`chmod 700 /run/ublk && chmod 600 ${file} && ublk recover -n ${id}`;
  await vm.sh`dd if=/dev/ublkb${id} of=/dev/null bs=4k count=1 iflag=direct status=none`;
  await vm.sh`ublk del -n ${id}`;
});

story("of two who recover a device at the same time, one does", {}, async (vm) => {
  await vm.sh`truncate -s 64M ${vm.data}/two.img`;
  const id = await vm.add`-t loop -f ${vm.data}/two.img -i`;
  await vm.sh`kill -KILL ${await vm.daemonPid(id)}`;
  const both = [vm.start`ublk recover -n ${id}`, vm.start`ublk recover -n ${id}`];
  const results = await Promise.all(both.map((one) => one.wait()));
  expect(results.map(({ status }) => status).toSorted()).toEqual([0, 1]);
  const loser = results.find(({ status }) => status === 1)!;
  expect(loser.stderr).toMatch(/is served already, by process|is being recovered by somebody else/);
  expect(await vm.sh`ublk list -n ${id}`).toContain("state LIVE");
  await vm.sh`dd if=/dev/ublkb${id} of=/dev/null bs=4k count=1 iflag=direct status=none`;
  await vm.sh`ublk del -n ${id}`;
});

/** The server is not sent home as long as another one would not find its image. */
async function upgradeRefused(vm: Vm, id: number, image: string): Promise<void> {
  const server = await vm.daemonPid(id);
  for (const [spoil, why] of [
    ["true", /open \S+: ENOENT.*\n.*its server goes on/],
    [`cp ${image}.x ${image}`, /is not the file that its server has open\n.*its server goes on/],
  ] as const) {
    await vm.sh`mv ${image} ${image}.x && ${raw(spoil)}`;
    await refused(vm, `ublk upgrade -n ${id}`, why);
    await vm.sh`dd if=/dev/ublkb${id} of=/dev/null bs=4k count=1 iflag=direct status=none`;
    expect(await vm.daemonPid(id)).toBe(server);
    await vm.sh`mv ${image}.x ${image}`;
  }
  await vm.sh`ublk upgrade -n ${id}`;
  expect(await vm.daemonPid(id)).not.toBe(server);
}

story("a recovery that fails leaves the device as it was", {}, async (vm) => {
  const image = `${vm.data}/f.img`;
  await vm.sh`truncate -s 64M ${image}`;
  const id = await vm.add`-t loop -f ${image} -i`;
  await upgradeRefused(vm, id, image);
  await vm.sh`kill -KILL ${await vm.daemonPid(id)}`;
  await vm.becomes(id, "QUIESCED", 60_000);
  const waits =
    /f.img: device \d is kept in it and waits for a server\n.*ublk recover -n \d serves it/;
  await refused(vm, `ublk add -t loop -f ${image}`, waits);
  await vm.sh`mv ${image} ${image}.x`;
  await refused(vm, `ublk recover -n ${id}`, /open \S+f.img: ENOENT/);
  await vm.sh`cp ${image}.x ${image}`;
  const other =
    /was kept in another file than what has the name \S+f.img now\n.*put that file back/;
  await refused(vm, `ublk recover -n ${id}`, other);
  await vm.sh`mv ${image}.x ${image} && truncate -s 32M ${image}`;
  await refused(vm, `ublk recover -n ${id}`, /has 67108864 bytes, but what it is kept in only 33/);
  await vm.sh`truncate -s 64M ${image} && echo more >> ${image}`;
  await vm.sh`ublk recover -n ${id} && ublk del -n ${id}`;
});

// On 6.12 a device was seen to stay between two states for good after such a kill: only deletion
// is promised there (README), and told by the story about half-recovered devices.
story(
  "a recovery that is killed at any moment can be done again",
  { features: ["UBLK_F_QUIESCE"] },
  async (vm) => {
    const image = `${vm.data}/f.img`;
    await vm.sh`rm -f ${image}; truncate -s 64M ${image}`;
    const id = await vm.add`-t loop -f ${image} -i`;
    await vm.sh`kill -KILL ${await vm.daemonPid(id)}`;
    for (const delay of ["0.2", "0.5", "0.8"]) {
      await vm.run`ublk recover -n ${id} & sleep ${delay}; pkill -KILL -x 'ublk|exe'; wait`;
      // One that had just been started may have been overlooked, and served the device by now.
      await vm.sh`until ublk list -n ${id} | grep -qE 'pid -1|LIVE'; do sleep 0.1; done`;
    }
    await vm.sh`ublk recover -n ${id} || ublk list -n ${id} | grep LIVE`;
    await vm.sh`dd if=/dev/ublkb${id} of=/dev/null bs=4k count=1 iflag=direct status=none`;
    await vm.sh`ublk del -n ${id}`;
  },
);

story("stop and del work on what nobody serves, and on what is half recovered", {}, async (vm) => {
  for (const make of [quiesced, halfRecovered]) {
    for (const end of ["del", "stop", "del --safe", "del --async"]) {
      const id = await make(vm);
      await vm.sh`ublk ${raw(end)} -n ${id}`;
      await vm.sh`test ! -e /dev/ublkb${id}`;
      if (end === "stop") await vm.sh`ublk del -n ${id}`;
      await vm.sh`while test -e /dev/ublkc${id}; do sleep 0.1; done; test ! -e /run/ublk/${id}.json`;
    }
  }
});

story(
  "--safe refuses a device that somebody has open, and nothing happens to it",
  {},
  async (vm) => {
    const id = await vm.add`-t null --size 64M`;
    const disk = `/dev/ublkb${id}`;
    const user = vm.start`exec 3< ${disk}; touch /tmp/has; sleep 600`;
    await vm.sh`until test -e /tmp/has; do sleep 0.05; done; rm /tmp/has`;
    for (const verb of ["stop", "del", "del --async"]) {
      await refused(vm, `ublk ${verb} --safe -n ${id}`, /is in use: [^]*without --safe/);
    }
    const free = await vm.add`-t null --size 64M`;
    await refused(vm, "ublk del -a --safe", /^ublk del: .* is in use: .*\n.*without --safe/);
    await vm.sh`test ! -e /dev/ublkc${free}`;
    await vm.sh`dd if=${disk} of=/dev/null bs=4k count=1 iflag=direct status=none`;
    await user.signal("KILL");
    await user.wait();
    await vm.sh`ublk del --safe -n ${id}`;
    await vm.sh`truncate -s 64M ${vm.data}/s.img`;
    const other = await vm.add`-t loop -f ${vm.data}/s.img`;
    await vm.sh`mkfs.ext4 -q /dev/ublkb${other} && mkdir -p /mnt/s && mount /dev/ublkb${other} /mnt/s`;
    await refused(vm, `ublk del --safe -n ${other}`, /is in use/);
    // Without it the driver takes the disk away; the number is free when the last has let go.
    await vm.sh`timeout 60 ublk del --async -n ${other} && umount /mnt/s`;
    await vm.sh`while test -e /dev/ublkc${other}; do sleep 0.1; done`;
  },
);

story("a server that is killed while it begins leaves what can be removed", {}, async (vm) => {
  // On 6.12 START_DEV reads partitions under the device's mutex, and what a dead server had of that
  // may wait for ever with -i.
  const recovery = (await vm.sh`ublk features`).includes("QUIESCE") ? "-i" : "";
  for (const delay of ["0.3", "0.6", "0.9", "1.2"]) {
    await vm.run`ublk add -t null --size 64M ${raw(recovery)} &
      sleep ${delay}; pkill -KILL -x 'ublk|exe'; wait`;
    for (const id of (await vm.sh`ls /sys/class/ublk-char/ 2> /dev/null || true`).match(/\d+/g) ??
      []) {
      const state = / state (\w+)/.exec(await vm.sh`ublk list -n ${id}`)?.[1];
      console.log(`killed after ${delay} s: ${state}`);
      await vm.run`timeout 60 ublk recover -n ${id}`;
      await vm.sh`timeout 60 ublk del -n ${id}`;
    }
  }
  expect(await vm.sh`ublk list`).toBe("");
});
