// Goal: what docs/ci.md recommends works as it stands there, and leaves no device behind.
// Method: the code blocks are taken from the page. Scripts run as they are; steps of a workflow by
//   the rules of the service; the unit by systemd; the container's process in a root file system
//   built by hand; and the initramfs boots.

import { expect, test } from "bun:test";
import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { boot, kernelToBoot, LINE } from "../release/boot.ts";
import { unpacked } from "../release/roots.ts";
import { passingDir } from "./cache.ts";
import { host } from "./host.ts";
import type { Kernel } from "./kernel.ts";
import { program } from "./machines.ts";
import { raw, story, type Vm } from "./story.ts";

const PAGE = await Bun.file(join(import.meta.dir, "../../docs/ci.md")).text();
const used = new Set<string>();

/** The code block of a language under a heading. */
function recipe(heading: string, language: string): string {
  const section = PAGE.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  const block = new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, "m").exec(section ?? "")?.[1];
  if (block === undefined) throw new Error(`docs/ci.md has no ${language} under ${heading}`);
  used.add(block);
  return block;
}

const LINES = recipe("One line", "sh");
const SCRIPT = recipe("A script that always deletes", "sh");
const WORKFLOW = recipe("Steps of a workflow", "yaml");
const UNIT = recipe("A service of systemd", "ini");
const CONTAINERFILE = recipe("A container", "dockerfile");
const PODMAN = recipe("A container", "sh");
const INITRAMFS = recipe("An initramfs", "sh");

test("every recipe of the page is one that is run here", () => {
  const blocks = [...PAGE.matchAll(/^```\w+\n([^]*?)^```$/gm)].map((match) => match[1]!);
  expect(blocks.filter((block) => !used.has(block))).toEqual([]);
});

const nothingIsLeft = async (vm: Vm): Promise<void> => {
  expect(await vm.sh`ublk list; ls /dev | grep ublk[bc] || :`).toBe("");
};

story("one line makes a disk of an image for as long as a command runs", {}, async (vm) => {
  const dir = `${vm.data}/line`;
  await vm.sh`mkdir -p ${dir}/src && echo words > ${dir}/src/file && truncate -s 64M ${dir}/disk.img`;
  await vm.write(`${dir}/lines.sh`, LINES);
  await vm.sh`cd ${dir} && sh -e lines.sh`;
  await nothingIsLeft(vm);
  expect(await vm.sh`debugfs -R 'cat /src/file' ${dir}/disk.img 2>/dev/null`).toBe("words");
  expect((await vm.run`ublk run -t loop -f ${dir}/disk.img -- sh -c 'exit 7'`).status).toBe(7);
  await nothingIsLeft(vm);
});

story("the script fills an image and leaves no device, also when it fails", {}, async (vm) => {
  const [dir, image] = [`${vm.data}/script`, `${vm.data}/script/disk.qcow2`];
  await vm.sh`mkdir -p ${dir} && qemu-img create -q -f qcow2 ${image} 256M`;
  await vm.write(`${dir}/fill.sh`, SCRIPT);
  await vm.sh`sh ${dir}/fill.sh ${image} /etc`;
  await nothingIsLeft(vm);
  const id = await vm.add`-t qcow2 -f ${image} --read-only`;
  await vm.sh`mkdir -p /mnt/ci && mount -o ro /dev/ublkb${id} /mnt/ci`;
  await vm.sh`test -f /mnt/ci/passwd && umount /mnt/ci && ublk del -n ${id}`;

  expect((await vm.run`sh ${dir}/fill.sh ${image} /no/such/folder`).status).not.toBe(0);
  await nothingIsLeft(vm);
});

interface Step {
  name: string;
  run: string;
  if?: string;
}

/** As the service does: `bash -e`, and after a failure only what is marked. */
async function runSteps(vm: Vm, dir: string): Promise<string[]> {
  const { steps } = Bun.YAML.parse(WORKFLOW) as { steps: Step[] };
  const outcomes: string[] = [];
  for (const { name, run, if: when } of steps) {
    if (outcomes.includes("failure") && when !== "always()") {
      outcomes.push("skipped");
      continue;
    }
    await vm.write(`${dir}/step.sh`, run);
    const { status } = await vm.run`cd ${dir} && PATH=${dir}/bin:$PATH bash -e step.sh`;
    outcomes.push(status === 0 ? "success" : "failure");
    expect(name).not.toBe("");
  }
  return outcomes;
}

story("the steps of a workflow make a disk and delete it, also when one fails", {}, async (vm) => {
  const dir = `${vm.data}/workflow`;
  await vm.sh`mkdir -p ${dir}/bin ${dir}/src && echo words > ${dir}/src/file`;
  await vm.write(`${dir}/bin/sudo`, '#!/bin/sh\nexec "$@"\n'); // we are root already
  await vm.sh`chmod +x ${dir}/bin/sudo`;
  expect(await runSteps(vm, dir)).toEqual(["success", "success", "success"]);
  await nothingIsLeft(vm);
  expect(await vm.sh`debugfs -R 'cat /src/file' ${dir}/disk.img 2>/dev/null`).toBe("words");

  await vm.sh`rm -r ${dir}/src`;
  expect(await runSteps(vm, dir)).toEqual(["success", "failure", "success"]);
  await nothingIsLeft(vm);
});

story("systemd keeps the disk as a service", {}, async (vm) => {
  const runtime = "/run/user/0";
  await vm.sh`mkdir -p -m 700 ${runtime}/systemd/user && mkdir -p /srv`;
  await vm.write(`${runtime}/systemd/user/disk.service`, UNIT);
  await vm.sh`qemu-img create -q -f qcow2 /srv/disk.qcow2 64M`;
  // A manager that is not the first process takes the same units, if it believes in the first.
  await vm.sh`mkdir -p /run/systemd/system`;
  const manager = vm.start`XDG_RUNTIME_DIR=${runtime} exec /lib/systemd/systemd --user`;
  const systemctl = `XDG_RUNTIME_DIR=${runtime} systemctl --user`;
  await vm.write("/run/systemctl", `#!/bin/sh\n${systemctl} "$@"\n`);
  await vm.sh`until [ -S ${runtime}/systemd/private ]; do sleep 0.2; done`;
  const ctl = (words: string) => vm.sh(`sh /run/systemctl ${words}`);
  await ctl("start disk.service");
  await vm.sh`test -b /dev/ublkb5 && mkfs.ext4 -q /dev/ublkb5`;
  expect(await ctl("is-active disk.service")).toBe("active");
  await ctl("stop disk.service");
  await nothingIsLeft(vm);
  await vm.sh`ublk check /srv/disk.qcow2 && rm /srv/disk.qcow2`;
  await manager.signal("TERM");
  await manager.wait();
  await vm.sh`rm -r /run/systemd/system ${runtime}`;
});

story("a container that has the executable serves the host", {}, async (vm) => {
  const [, copy = "", entrypoint = ""] = CONTAINERFILE.trim().split("\n");
  const copied = /^COPY --chmod=755 ublk-linux-x64 (\S+)$/.exec(copy)![1]!;
  const entry = JSON.parse(entrypoint.replace("ENTRYPOINT ", "")) as string[];
  const words = PODMAN.replaceAll("\\\n", "").trim().split(/\s+/);
  const [options, command] = [words.slice(2, words.indexOf("IMAGE")), [...entry]];
  command.push(...words.slice(words.indexOf("IMAGE") + 1));
  const volumes = options.filter((word) => word.includes(":")).map((word) => word.split(":"));
  const given = options.filter((word) => word.startsWith("--"));
  expect(given).toEqual(["--rm", "--privileged", "--pid=host"]); // what is done by hand below

  const root = `${vm.data}/container`;
  await vm.sh`mkdir -p ${root}/proc ${root}/sys ${root}/tmp /srv /run/ublk && truncate -s 64M /srv/disk.img`;
  // The base image: the C library. Then COPY.
  await vm.sh`for one in $(ldd $(command -v ublk) | grep -o '/[^ ]*'); do
    mkdir -p ${root}$(dirname $one) && cp -L $one ${root}$one; done`;
  await vm.sh`mkdir -p ${root}$(dirname ${copied}) && cp -L $(command -v ublk) ${root}${copied}`;
  const mounts = [
    `mount --rbind ${root} ${root}`,
    ...volumes.map(([from, to]) => `mkdir -p ${root}${to}; mount --rbind ${from} ${root}${to}`),
    `mount -t proc proc ${root}/proc; mount -t sysfs sys ${root}/sys`,
  ].join("; ");
  const enter = `cd ${root}; mount --move . /; exec chroot . ${command.join(" ")}`;
  await vm.write("/run/container.sh", `set -e; ${mounts}; ${enter}`);
  const apart = "--mount --uts --ipc --net --cgroup";
  const served = vm.start`exec env -i PATH=$PATH unshare ${raw(apart)} sh /run/container.sh`;
  await vm.becomes(6, "LIVE");
  await vm.sh`mkfs.ext4 -q /dev/ublkb6 && mkdir -p /mnt/ci && mount /dev/ublkb6 /mnt/ci`;
  await vm.sh`cp /etc/passwd /mnt/ci && umount /mnt/ci`;
  expect(await vm.sh`ublk list -n 6`).toContain('"backing_file":"/srv/disk.img"');
  await served.signal("TERM");
  expect((await served.wait()).status).toBe(0);
  await nothingIsLeft(vm);
  await vm.sh`e2fsck -f -n /srv/disk.img`;

  // A folder that was only chroot(2)ed into, as build tools do, is no mount: it serves as well.
  const inside = [copied, ...words.slice(words.indexOf("IMAGE") + 1, -1)].join(" ");
  const chroot = `set -e; ${mounts.replace(/^.*?; /, "")}; chroot ${root} ${inside}`;
  await vm.sh`unshare --mount sh -c ${chroot}`;
  await vm.sh`e2fsck -f -n /dev/ublkb6 && ublk del -n 6`;
  await nothingIsLeft(vm);
  await vm.sh`rm -r /srv/disk.img /run/container.sh ${root}`;
});

/** What the initramfs hands over to. */
const INIT = `#!/bin/busybox sh
busybox grep ' / ' /proc/mounts
busybox dd if=/dev/urandom of=/written bs=1M count=8 2>&1
busybox sync && busybox mount -o remount,ro / && echo ALL WELL
busybox reboot -f
`;

/** A folder with images/root.qcow2, in which a busybox is the whole system. */
async function systemInAnImage(dir: string, busybox: string): Promise<string> {
  const system = join(dir, "system");
  for (const name of ["bin", "sbin", "dev", "proc", "sys", "run"]) {
    await mkdir(join(system, name), { recursive: true });
  }
  await host(["install", busybox, join(system, "bin/busybox")]);
  await Bun.write(join(system, "sbin/init"), INIT);
  await chmod(join(system, "sbin/init"), 0o755);
  const raw = join(dir, "root.img");
  await host(["mke2fs", "-q", "-F", "-t", "ext4", "-d", system, raw, "128M"]);
  const disk = join(dir, "disk");
  await mkdir(disk);
  await host(["qemu-img", "convert", "-O", "qcow2", raw, join(disk, "root.qcow2")]);
  return disk;
}

const kernel = await kernelToBoot("amd64");
const promise = `the initramfs boots a system that is in a qcow2 image [${LINE}]`;
if ("missing" in kernel) test.skip(`${promise}: ${kernel.missing}`, () => undefined);
else test(promise, () => bootInitramfs(kernel));

async function bootInitramfs(kernel: Kernel): Promise<void> {
  const dir = await passingDir();
  try {
    const tree = await unpacked(["busybox-static"], "amd64");
    const busybox = join(tree, "usr/bin/busybox");
    const modules = join(kernel.dir, "usr/lib/modules", kernel.release);
    const module = join(modules, "kernel/drivers/block/ublk_drv.ko");
    await Bun.write(join(dir, "initramfs.sh"), INITRAMFS);
    const initramfs = join(dir, "initramfs.img");
    await host(["sh", join(dir, "initramfs.sh"), program, busybox, module, initramfs]);
    const folder = await systemInAnImage(dir, busybox);
    const said = await boot({ kernel, cpu: "Nehalem", folder, initramfs, seconds: 240 });
    expect(said).toMatch(/^\/dev\/ublkb0 \/ ext4 rw/m);
    expect(said).toMatch(/^ALL WELL$/m);
  } finally {
    await host(["rm", "-rf", dir]);
  }
}
