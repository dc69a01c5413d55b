// Goal: `ublk run` is one line where scripts had ten: the device is there for as long as the
// command runs, its exit status is the command's, and nothing is left whatever happened.
// Method: commands that end in every way; signals to them and to us; the kernel says what is left.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

const NOTHING = "ls -A /run/ublk; ls /dev | grep ublk[bc] || true; pgrep -x ublk || true";

/** Devices, state and daemons are gone, at the latest after some seconds. */
async function comesToNothing(vm: Vm): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    if ((await vm.sh`${raw(NOTHING)}`) === "") return;
    await Bun.sleep(100);
  }
  expect(await vm.sh`${raw(NOTHING)}`).toBe("");
}

story("the device lives as long as the command, whose status is ours", {}, async (vm) => {
  const image = `${vm.data}/run.img`;
  await vm.sh`truncate -s 64M ${image}`;
  const run = `ublk run -t loop -f ${image}`;
  await vm.sh`${raw(run)} -- mkfs.ext4 -q {}`;
  expect(
    await vm.sh`${raw(run)} --read-only -- sh -c 'mkdir -p /mnt/r && mount -o ro,noload $UBLK_DEVICE /mnt/r &&
    ls /mnt/r && umount /mnt/r'`,
  ).toBe("lost+found");
  expect(await vm.sh`${raw(run)} -- echo a{}b {}`).toBe("a/dev/ublkb0b /dev/ublkb0");
  await vm.sh`e2fsck -f -n ${image}`;
  expect(await vm.sh`${raw(NOTHING)}`).toBe("");

  const cases = [
    ["sh -c 'exit 7'", 7, ""],
    ["sh -c 'kill -KILL $$'", 137, ""],
    ["sh -c 'kill -TERM $$'", 143, ""],
    ["no-such-command", 127, "command not found"],
    ["/etc/passwd", 126, "is no program"],
    ["ls --no-such-option", 2, "unrecognized option"],
  ] as const;
  for (const [command, status, said] of cases) {
    const result = await vm.run`${raw(run)} -- ${raw(command)}`;
    expect(result.status, command).toBe(status);
    expect(result.stderr, command).toContain(said);
    expect(result.stderr, command).not.toContain("ublk0: live"); // its log is not the command's
    expect(await vm.sh`${raw(NOTHING)}`).toBe("");
  }
  // In a container it may well be process 1.
  const first = `unshare --pid --fork --mount-proc ${run}`;
  expect(await vm.sh`${raw(first)} -- sh -c 'echo $PPID $UBLK_DEVICE'`).toBe("1 /dev/ublkb0");
  expect(await vm.sh`${raw(NOTHING)}`).toBe("");
  // Somebody deletes the device meanwhile, and another one takes its number.
  const gone = await vm.run`ublk run -t null -- sh -c 'ublk del -n 0; exit 4'`;
  expect([gone.status, gone.stderr]).toEqual([4, expect.not.stringContaining("ublk run:")]);
  const other = "ublk del -n 0; ublk add -n 0 -t null --size 1G > /dev/null; exit 5";
  const taken = await vm.run`ublk run -t null -- sh -c ${other}`;
  expect([taken.status, taken.stderr]).toEqual([5, expect.not.stringContaining("ublk run:")]);
  await vm.sh`ublk list -n 0 | grep LIVE && ublk del -n 0`;

  const missing = await vm.run`ublk run -t loop -f /nowhere/a.img -- touch /tmp/ran`;
  expect(missing.status).toBe(1);
  expect(missing.stderr).toStartWith("ublk run: open /nowhere/a.img: ENOENT");
  await vm.sh`test ! -e /tmp/ran`;
});

story("signals reach the command, and the device goes whoever is killed", {}, async (vm) => {
  const trap = "trap 'echo told; exit 5' TERM; echo up > /tmp/up; while :; do sleep 0.1; done";
  for (const [signal, status, out] of [
    ["TERM", 5, "told"],
    ["HUP", 129, ""],
  ] as const) {
    await vm.sh`rm -f /tmp/up /tmp/pid`;
    const job = vm.start`ublk run -t null --size 1G -- bash -c ${trap} & echo $! > /tmp/pid; wait $!`;
    await vm.sh`until test -e /tmp/up; do sleep 0.1; done; kill -${signal} $(cat /tmp/pid)`;
    const { status: ended, stdout } = await job.wait();
    expect([ended, stdout.trim()], signal).toEqual([status, out]);
    await comesToNothing(vm);
  }
  await vm.sh`rm -f /tmp/up /tmp/pid`;
  const job = vm.start`ublk run -t null --size 1G -- bash -c ${"echo up > /tmp/up; exec sleep 60"} & echo $! > /tmp/pid; wait $!`;
  await vm.sh`until test -e /tmp/up; do sleep 0.1; done; kill -KILL $(cat /tmp/pid)`;
  await job.wait();
  await comesToNothing(vm);
  await vm.sh`pkill -x sleep`; // which outlives its parent
});
