// Goal: an ordinary user has disks of his own, and nobody else's.
// Method: uid 1000 with udev's rules, without them, and as the root of a user namespace; uid 1001
// tries what it should not.

import { expect } from "bun:test";
import { type Result } from "./vm.ts";
import { raw, story, type Vm } from "./story.ts";

const FEATURES = { features: ["UBLK_F_UNPRIVILEGED_DEV" as const] };
const RUNTIME = "/run/user/1000";
const RULES = "/etc/udev/rules.d/60-ublk.rules";

async function asUser(vm: Vm, command: string, uid = 1000): Promise<Result> {
  const who = `--reuid ${uid} --regid ${uid} --clear-groups --inh-caps=-all --bounding-set=-all`;
  const env = `-i PATH=$PATH XDG_RUNTIME_DIR=/run/user/${uid}`;
  return vm.run`cd / && setpriv ${raw(who)} env ${raw(env)} bash -c ${command}`;
}

async function works(vm: Vm, command: string, uid = 1000): Promise<string> {
  const { status, stdout, stderr } = await asUser(vm, command, uid);
  expect({ command, status, stderr: status === 0 ? "" : stderr }).toEqual({
    command,
    status: 0,
    stderr: "",
  });
  return stdout.trim();
}

async function fails(vm: Vm, command: string, line: RegExp, uid = 1000): Promise<void> {
  const { status, stderr } = await asUser(vm, command, uid);
  expect(stderr, command).toMatch(line);
  expect(status, command).not.toBe(0);
}

async function prepare(vm: Vm): Promise<void> {
  for (const uid of [1000, 1001]) {
    await vm.sh`install -d -m 700 -o ${uid} -g ${uid} /run/user/${uid} ${vm.data}/${uid}`;
  }
}

/** The next story may be told to the same guest. */
async function tidy(vm: Vm): Promise<void> {
  await vm.sh`rm -rf ${RULES} /run/sbin /run/user /tmp/x[12] /tmp/host /tmp/dev ${vm.data}/100[01]`;
  await vm.sh`udevadm control --reload && udevadm settle && chmod 600 /dev/ublk-control`;
}

async function installRules(vm: Vm): Promise<void> {
  // Root runs what the rules name, so it has to be root's.
  await vm.sh`install -D -m 755 /opt/ublk/ublk /run/sbin/ublk && mkdir -p /etc/udev/rules.d`;
  await vm.sh`/run/sbin/ublk udev-rules > ${RULES} && udevadm control --reload`;
  // Once, of many times, udevd had settled and the node was as before.
  await vm.sh`until [ "$(stat -c %a /dev/ublk-control)" = 666 ]; do
    udevadm trigger --action=add /dev/ublk-control && udevadm settle && sleep 0.2; done`;
}

const owner = (vm: Vm, node: string): Promise<string> => vm.sh`stat -c '%u:%g' ${node}`;

story("with udev's rules a user adds, uses, lists and deletes devices", FEATURES, async (vm) => {
  await prepare(vm);
  await fails(vm, "ublk add -t null --unprivileged", /ublk-control: EACCES[^]*ublk udev-rules/);
  await installRules(vm);
  const home = `${vm.data}/1000`;
  await works(vm, `truncate -s 64M ${home}/a.img && qemu-img create -q -f qcow2 ${home}/b 64M`);
  const first = await asUser(vm, "ublk add -t null --size 64M --unprivileged --json -q 2");
  expect(first.stderr).toContain("an ordinary user's server");
  expect(JSON.parse(first.stdout)).toMatchObject({ mode: "copy", owner_uid: 1000, state: "LIVE" });
  await works(vm, `ublk add -t loop -f ${home}/a.img --unprivileged -g`);
  await works(vm, `ublk add -t qcow2 -f ${home}/b --unprivileged`);
  for (const id of [0, 1, 2]) {
    expect([await owner(vm, `/dev/ublkc${id}`), await owner(vm, `/dev/ublkb${id}`)]).toEqual([
      "1000:1000",
      "1000:1000",
    ]);
  }
  expect(await works(vm, `stat -c %a ${RUNTIME}/ublk ${RUNTIME}/ublk/0.json`)).toBe("700\n600");
  expect(await vm.sh`ls -A /run/ublk 2>/dev/null || true`).toBe("");
  for (const id of [1, 2]) {
    await works(vm, `dd if=/dev/urandom of=/tmp/x${id} bs=1M count=8 status=none`);
    await works(vm, `dd if=/tmp/x${id} of=/dev/ublkb${id} bs=1M oflag=direct status=none`);
    await works(vm, `cmp -n 8388608 /tmp/x${id} /dev/ublkb${id}`);
  }
  // udev looked at the disk again after it was written to: it stays the user's.
  await vm.sh`udevadm settle`;
  await works(vm, `cmp -n 8388608 /tmp/x1 /dev/ublkb1`);
  await strangers(vm);
  const listed = JSON.parse(await works(vm, "ublk list --json"));
  expect(listed.map((view: { target: { name: string } }) => view.target.name)).toEqual([
    ...["null", "loop", "qcow2"],
  ]);
  const daemon = listed[0].ublksrv_pid;
  await works(vm, `kill ${daemon}; while kill -0 ${daemon}; do sleep 0.1; done 2>/dev/null`);
  await works(vm, "ublk del -n 1 && ublk del -a");
  // Without its node the driver hears nobody, so the server's exit has to end it.
  for (const delay of ["0", "0.1", "0.3"]) {
    const born = "until test -w /dev/ublkc0; do sleep 0.01; done";
    const del = `${born}; sleep ${delay}; timeout 60 ublk del -n 0; echo del $?; wait $!; echo add $?`;
    const ends = await works(vm, `timeout 60 ublk add -t null -n 0 --unprivileged >&2 & ${del}`);
    console.log(`${delay} s after the hand-over: ${ends.replaceAll("\n", ", ")}`);
    expect(ends).toMatch(/^del 0\nadd [01]$/);
  }
  expect(await vm.sh`ls -A ${RUNTIME}/ublk; ls /dev | grep ublk[bc] || true`).toBe("");
  await works(vm, `qemu-img check -q ${home}/b && cmp -n 8388608 /tmp/x1 ${home}/a.img`);
  await tidy(vm);
});

/** Another user, and root, while uid 1000 has devices 0, 1 and 2. */
async function strangers(vm: Vm): Promise<void> {
  const roots = await vm.run`ublk add -t null --size 64M --unprivileged --json`;
  expect(roots.stderr).toContain("you are root: the driver ignores --unprivileged");
  const rootId = JSON.parse(roots.stdout).dev_id;
  await fails(vm, "ublk del -n 0", /EACCES[^]*the device's owner/, 1001);
  await fails(vm, "head -c 512 /dev/ublkb0", /denied|not permitted/, 1001);
  await fails(vm, `ublk del -n ${rootId}`, /EPERM[^]*run as root/);
  const mine = await asUser(vm, "ublk list");
  expect(mine.stderr).toContain("note: 1 of other users not shown");
  await vm.sh`udevadm settle`;
  expect(await owner(vm, `/dev/ublkc${rootId}`)).toBe("0:0"); // the helper ran for it, too
  await vm.sh`ublk del -n ${rootId}`;
}

story(
  "what an ordinary user cannot have is refused before there is a device",
  FEATURES,
  async (vm) => {
    await prepare(vm);
    await vm.sh`chmod 666 /dev/ublk-control`;
    const add = "ublk add -t null --size 1M";
    for (const option of ["-z", "-r"]) {
      await fails(
        vm,
        `${add} --unprivileged ${option}`,
        /--unprivileged and .* exclude each other/,
      );
    }
    await fails(vm, add, /ADD_DEV: EPERM[^]*add --unprivileged/);
    const alone = `${add} --unprivileged`;
    await fails(vm, `unset XDG_RUNTIME_DIR; ${alone}`, /XDG_RUNTIME_DIR: is not set/);
    await fails(vm, `XDG_RUNTIME_DIR=/run/user/1001 ${alone}`, /state directory|not there/);
    await fails(vm, `XDG_RUNTIME_DIR=/tmp ${alone}`, /state directory \/tmp: is not/);
    await fails(vm, `chmod 777 ${RUNTIME}/ublk; ${alone}`, /state directory \S+ublk: is not/);
    await vm.sh`rm -r ${RUNTIME}/ublk && ln -s /tmp ${RUNTIME}/ublk`;
    await fails(vm, alone, /state directory \S+ublk: is not/);
    await vm.sh`rm ${RUNTIME}/ublk`;
    expect(await vm.sh`ls /dev | grep ublk[bc] || true`).toBe("");
    await tidy(vm);
  },
);

story("without udev's rules it is said what is missing, or done by hand", FEATURES, async (vm) => {
  await prepare(vm);
  await vm.sh`chmod 666 /dev/ublk-control`;
  const alone = "ublk add -t null --size 64M --unprivileged";
  await fails(vm, alone, /open \/dev\/ublkc0: EACCES, and nobody[^]*udev-rules[^]*ublk del -n 0/);
  await vm.sh`ublk del -n 0`;

  const adding = asUser(vm, alone);
  for (const node of ["/dev/ublkc0", "/dev/ublkb0"]) {
    await vm.sh`until [ -e ${node} ]; do sleep 0.05; done; udevadm settle`;
    // Only of one node: the server waits no longer than ten seconds for both.
    if (node === "/dev/ublkc0") await fails(vm, `ublk chown-device ${node}`, /EACCES|EPERM/);
    await vm.sh`ublk chown-device ${node}`;
    expect(await vm.sh`stat -c '%u:%g %a' ${node}`).toBe("1000:1000 600");
  }
  expect((await adding).status).toBe(0);
  await fails(vm, "ublk chown-device /dev/ublkb0", /EACCES|EPERM/, 1001);

  // A node of another number under the device's name, a link, and a file: none is touched.
  await vm.sh`mv /dev/ublkb0 /dev/kept && ln -s kept /dev/ublkb0`;
  expect((await vm.run`ublk chown-device /dev/ublkb0`).stderr).toMatch(
    /has not the device's number/,
  );
  await vm.sh`rm /dev/ublkb0 && mknod /dev/ublkb0 b 1 0`;
  expect((await vm.run`ublk chown-device /dev/ublkb0`).stderr).toMatch(
    /has not the device's number/,
  );
  expect(await owner(vm, "/dev/ublkb0")).toBe("0:0");
  await vm.sh`mv /dev/kept /dev/ublkb0`;
  for (const path of ["/dev/null", "/dev/ublkc0/../null", "dev/ublkc0", "/dev/ublkc00"]) {
    expect((await vm.run`ublk chown-device ${path}`).stderr).toMatch(/is no node of a ublk device/);
  }
  await works(vm, "ublk del -n 0");
  await tidy(vm);
});

// The container's /dev is its own; whoever runs it mounts the nodes there, as `--device` does, once
// they are the user's. Inside, the user is root and root is nobody.
const CONTAINER = `
  mkdir /tmp/host /tmp/dev && mount --rbind /dev /tmp/host
  mount -t tmpfs -o mode=755 none /tmp/dev
  give() { touch $2/$1 && mount --bind /tmp/host/$1 $2/$1; }
  for node in null zero urandom ublk-control; do give $node /tmp/dev; done
  (for node in ublkc0 ublkb0; do
    until [ "$(stat -c %u /tmp/host/$node 2>/dev/null)" = 0 ]; do sleep 0.05; done
    give $node /dev
  done) &
  mount --rbind /tmp/dev /dev
`;

story("the root of a user namespace has a device of his own", FEATURES, async (vm) => {
  await prepare(vm);
  await installRules(vm);
  const inside = `set -e; ${CONTAINER}
    [ $(id -u) = 0 ]; [ ! -e /dev/ublkb0 ]
    ublk add -t null --size 64M --unprivileged --json
    ublk list -n 0 | grep -q UNPRIVILEGED_DEV
    dd if=/dev/zero of=/dev/ublkb0 bs=1M count=8 oflag=direct status=none
    ublk del -n 0`;
  const out = await works(vm, `unshare --user --map-root-user --mount bash -c '${inside}'`);
  expect(JSON.parse(out)).toMatchObject({ owner_uid: 1000, state: "LIVE" });
  await tidy(vm);
});

story(
  "a user gives his disk another size, and nobody else does",
  { features: ["UBLK_F_UNPRIVILEGED_DEV", "UBLK_F_UPDATE_SIZE"] },
  async (vm) => {
    await prepare(vm);
    await installRules(vm);
    const home = `${vm.data}/1000`;
    await works(vm, `cd ${home} && qemu-img create -q -f qcow2 q.qcow2 64M`);
    await works(vm, `ublk add -t qcow2 -f ${home}/q.qcow2 --unprivileged -n 0`);
    const size = (): Promise<string> => vm.sh`blockdev --getsize64 /dev/ublkb0`;
    await works(vm, "ublk resize -n 0 --size 96M");
    expect(await size()).toBe(String(96 << 20));
    await fails(vm, "ublk resize -n 0 --size 128M", /EACCES[^]*the device's owner/, 1001);
    await fails(vm, "ublk resize -n 0 --size 32M", /--shrink does it/);
    expect(await size()).toBe(String(96 << 20));
    await works(vm, "ublk resize -n 0 --size 32M --shrink && ublk del -n 0");
    await vm.sh`qemu-img check -q ${home}/q.qcow2`;
    await tidy(vm);
  },
);
