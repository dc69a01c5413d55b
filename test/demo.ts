// bun run demo: the main job, for real, each command shown with what it prints. It runs on this
// machine where that has ublk and we are root, and in a guest with a kernel of Debian otherwise.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { expectClean, survey } from "./vm/checks.ts";
import { LabError, note } from "./vm/host.ts";
import { HostVm } from "./vm/host_vm.ts";
import { prepareKernel } from "./vm/kernel.ts";
import { guestMachine, kernelLines, program } from "./vm/machines.ts";
import { CommandError, MachineError, type Vm } from "./vm/vm.ts";

/** Copied to the disk: the first of these that is there. */
const TREES = ["/usr/share/doc", "/usr/sbin"];

function say(text: string): void {
  process.stdout.write(`\n# ${text}\n`);
}

async function build(): Promise<void> {
  // Also over an older one: what is shown has to be this source.
  const child = Bun.spawn([process.execPath, "build.ts"], {
    cwd: join(import.meta.dir, ".."),
    stdio: ["ignore", "inherit", "inherit"],
  });
  if ((await child.exited) !== 0) throw new LabError("bun build.ts failed, see above");
}

async function machine(): Promise<Vm> {
  if (process.getuid?.() === 0 && existsSync("/dev/ublk-control")) {
    note("this kernel has ublk: the commands run right here");
    return HostVm.open(program);
  }
  note("no ublk here, or not root: the commands run in a guest");
  const line = kernelLines()[0] ?? "";
  const kernel = await prepareKernel(line);
  if ("missing" in kernel) throw new LabError(kernel.missing);
  const { open } = await guestMachine(kernel);
  note(`booting ${kernel.release}`);
  return open();
}

/** What has to be undone, whatever happens. The last comes first. */
type Undo = (() => Promise<unknown>)[];

async function mainJob(vm: Vm, undo: Undo): Promise<void> {
  const [image, mnt] = [join(vm.data, "disk.img"), join(vm.data, "mnt")];
  const tree = await vm.sh`ls -d ${TREES} 2>/dev/null | head -n 1`;

  say("an image becomes a disk");
  await vm.show`truncate -s 1G ${image}`;
  const id = /dev id (\d+):/.exec(await vm.show`ublk add -t loop -f ${image}`)?.[1];
  if (id === undefined) throw new LabError("ublk add did not print the new device's id");
  undo.push(() => vm.run`ublk del -n ${id}`);
  const disk = `/dev/ublkb${id}`;

  say("a file system lives on it");
  await vm.show`mkfs.xfs ${disk}`;
  await vm.sh`mkdir ${mnt}`;
  await vm.show`mount ${disk} ${mnt}`;
  undo.push(() => vm.run`umount ${mnt}`);
  await vm.show`cp -r ${tree} ${mnt}`;
  await vm.show`df -h ${mnt}`;
  await vm.show`umount ${mnt}`;
  undo.pop();

  say("what there is, for people and for programs");
  await vm.show`ublk list`;
  await vm.show`ublk list --json`;
  await vm.show`ublk features`;
  await vm.show`ublk del -n ${id}`;
  undo.pop();

  say("and the disk is an image again: a clean file system, with the same files");
  await vm.show`xfs_repair -n -f ${image}`;
  if ((await vm.run`modprobe loop; test -c /dev/loop-control`).status !== 0) return;
  await vm.show`mount -o loop,ro ${image} ${mnt}`;
  undo.push(() => vm.run`umount ${mnt}`);
  await vm.show`diff -r --no-dereference ${tree} ${mnt}/$(basename ${tree}) && echo same`;
  await vm.show`umount ${mnt}`;
  undo.pop();
}

/** A signal ends the demonstration like a failure does, so that everything is undone. */
function interruption(): Promise<never> {
  return new Promise((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.once(signal, () => reject(new LabError(`interrupted by ${signal}`)));
    }
  });
}

async function demonstrate(): Promise<void> {
  await build();
  const vm = await machine();
  const undo: Undo = [];
  try {
    const before = await survey(vm);
    await Promise.race([mainJob(vm, undo), interruption()]);
    await expectClean(vm, before);
  } finally {
    await vm.killStarted();
    for (const step of undo.toReversed()) await step();
    await vm.close();
  }
}

try {
  await demonstrate();
  say("done");
} catch (error) {
  const known = [LabError, CommandError, MachineError].some((kind) => error instanceof kind);
  console.error(known ? `error: ${(error as Error).message}` : error);
  process.exitCode = 1;
}
