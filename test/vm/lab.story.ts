// Goal: what stories take for granted about their laboratory is true.
// Method: commands whose outcome is known, and deliberate dirt that the checks must notice.

import { expect } from "bun:test";
import { expectClean, faults, survey } from "./checks.ts";
import { kernelLines } from "./machines.ts";
import { CommandError, story } from "./story.ts";

/** Not the host. */
const GUESTS = { kernels: kernelLines() };
const PRISTINE = { devices: [], daemons: [], stuck: [], log: "" };

story("commands run at the same time, with their own output and status", {}, async (vm) => {
  const slow = vm.start`sleep 1; echo slow; exit 3`;
  const sleeper = vm.start`sleep 1000`;
  expect(await vm.sh`echo quick`).toBe("quick");
  expect(await slow.wait()).toEqual({ status: 3, stdout: "slow\n", stderr: "" });
  await sleeper.signal("TERM");
  expect((await sleeper.wait()).status).toBe(128 + 15);

  const many = Array.from({ length: 20 }, (_, i) => vm.run`echo ${i}; echo e${i} >&2; exit ${i}`);
  for (const [i, result] of (await Promise.all(many)).entries()) {
    expect(result).toEqual({ status: i, stdout: `${i}\n`, stderr: `e${i}\n` });
  }
});

story("words, files and bytes arrive unchanged", {}, async (vm) => {
  const odd = "a 'b' \"c\" $d `e` \\ * \n ü ;";
  expect(await vm.sh`printf %s ${odd}`).toBe(odd.trim());
  expect(await vm.sh`printf '[%s]' ${["x y", "z"]}`).toBe("[x y][z]");
  await vm.write("/tmp/some/where", odd);
  expect(await vm.read("/tmp/some/where")).toBe(odd);
  const sum = "head -c 3000000 /dev/urandom | tee /tmp/big | sha256sum | cut -c1-64";
  const expected = await vm.sh(sum);
  const big = await vm.sh`base64 -w0 /tmp/big`;
  const got = new Bun.CryptoHasher("sha256").update(Buffer.from(big, "base64")).digest("hex");
  expect(got).toBe(expected);
});

story("a failing command is an error that says what it printed", {}, async (vm) => {
  const error: unknown = await vm.sh`echo out; echo err >&2; false`.catch((e: unknown) => e);
  expect(error).toBeInstanceOf(CommandError);
  expect(String(error)).toContain("exit status 1\nout\nerr");
  vm.patience = 5;
  const late: unknown = await vm.sh`echo begun; sleep 1000`.catch((e: unknown) => e);
  expect(String(late)).toMatch(/not finished after 5 s[^]*sysrq: Show Blocked State[^]*begun/);
});

story("a guest has the disks, devices and services that stories use", GUESTS, async (vm) => {
  await vm.sh`udevadm settle && test -c /dev/ublk-control`;
  await vm.sh`dd if=/dev/zero of=${vm.data}/direct bs=1M count=8 oflag=direct`;
  expect(await vm.sh`findmnt -no FSTYPE ${vm.data}`).toBe("ext4");
  expect(await vm.sh`blockdev --getsize64 ${vm.spare}`).toBe(String(2 ** 30));
  await vm.sh`mkfs.xfs -q ${vm.spare} && mount ${vm.spare} /mnt && umount /mnt`;
  await vm.sh`fio --version; qemu-img --version; strace -V; echo > /dev/stdout`;
  await vm.sh`echo > /dev/kmsg && test "$(nproc)" = 2`;
});

story("what was written before the plug is pulled is there after a reboot", {}, async (vm) => {
  await vm.sh`echo kept > ${vm.data}/file && sync && dmesg -n 1`;
  const running = vm.start`sleep 1000`;
  await vm.sh`true`;
  await vm.pullThePlug();
  expect(String(await running.wait().catch((e: unknown) => e))).toContain("the machine ended");
  await vm.reboot();
  expect(await vm.sh`cat ${vm.data}/file`).toBe("kept");
});

story("a splat, a process in state D and a leftover daemon are noticed", GUESTS, async (vm) => {
  await expectClean(vm, PRISTINE);
  await vm.sh`echo 'WARNING: CPU: 0 PID: 1 at lab.ts' > /dev/kmsg`;
  await vm.sh`mkdir -p /tmp/ublk.d && cp /bin/sleep /tmp/ublk.d/ublk`;
  const daemon = vm.start`/tmp/ublk.d/ublk 1000`;
  await vm.sh`fsfreeze -f ${vm.data}`;
  const stuck = vm.start`touch ${vm.data}/x`;
  let dirty = await survey(vm);
  const touching = () => dirty.stuck.some((process) => process.includes("(touch)"));
  for (let tries = 0; !touching() && tries < 50; tries++) dirty = await survey(vm);
  const found = faults(PRISTINE, dirty).join("\n");
  expect(found).toContain("WARNING: CPU: 0");
  expect(found).toMatch(/ublk processes are left: \d+/);
  expect(found).toMatch(/stuck in the kernel \(state D\): \d+ \(touch\) in \w+/);
  await vm.sh`fsfreeze -u ${vm.data}; dmesg -C`;
  await daemon.signal("KILL");
  await Promise.all([stuck.succeeds(), daemon.wait()]);
});

/** The order of these two matters; each holds by itself. */
story("a story may leave files, modules and whatever is on the spare disk", {}, async (vm) => {
  await vm.sh`touch /tmp/left ${vm.data}/left && mkdir -p /mnt/left && modprobe loop`;
  await vm.sh`mkfs.ext4 -q ${vm.spare} && echo '<4>lab: left' > /dev/kmsg`;
});

story("the next one finds nothing of that", GUESTS, async (vm) => {
  expect(await vm.sh`ls /tmp; ls -I lost+found ${vm.data}; ls /mnt`).toBe("");
  expect(await vm.sh`grep -w ^loop /proc/modules; dmesg | grep 'lab: left' || true`).toBe("");
  await vm.sh`cmp -n 1048576 ${vm.spare} /dev/zero`;
});
