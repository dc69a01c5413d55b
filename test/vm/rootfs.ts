// Builds the guest's disks with mke2fs: no root and no loop device needed.

import { accessSync, constants, existsSync, lstatSync, readlinkSync, realpathSync } from "node:fs";
import { mkdir, readdir, symlink } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { cached, keyOf, prune } from "./cache.ts";
import { host, note } from "./host.ts";
import type { Kernel } from "./kernel.ts";
import { guestPackages } from "./packages.ts";

const GUEST_SCRIPTS = join(import.meta.dir, "guest");

/** Left out of the packages' files: they are many, and no program reads them. */
const UNUSED = RegExp(
  `^(/usr)?/(${[
    "share/(doc|man|info|locale|lintian|bug|i18n|zoneinfo)",
    "lib/udev/hwdb.d",
    "lib/x86_64-linux-gnu/gconv",
  ].join("|")})(/|$)`,
);

const ETC = {
  "etc/passwd": [
    "root:x:0:0:root:/root:/bin/bash",
    "user:x:1000:1000:user:/tmp:/bin/bash",
    "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin",
  ],
  // The groups that udev's rules name.
  "etc/group": [
    ...["root:x:0:", "disk:x:6:", "lp:x:7:", "dialout:x:20:", "cdrom:x:24:", "tape:x:26:"],
    ...["tty:x:5:", "kmem:x:15:", "audio:x:29:", "video:x:44:", "input:x:101:", "sgx:x:102:"],
    ...["kvm:x:103:", "render:x:104:", "user:x:1000:", "nogroup:x:65534:"],
  ],
  "etc/hostname": ["lab"],
  "etc/hosts": ["127.0.0.1 localhost lab"],
  "etc/nsswitch.conf": ["passwd: files", "group: files", "hosts: files"],
  "etc/fstab": [
    ...["devpts /dev/pts devpts X-mount.mkdir"],
    ...["proc /proc proc", "sysfs /sys sysfs", "cgroup /sys/fs/cgroup cgroup2"],
    ...["shm /dev/shm tmpfs mode=1777,X-mount.mkdir"],
    ...["run /run tmpfs mode=755", "tmp /tmp tmpfs mode=1777"],
  ],
  "etc/ld.so.conf": ["include /etc/ld.so.conf.d/*.conf"],
};

/** The root image for a kernel, made from the host's own packages. */
export async function rootImage(kernel: Kernel): Promise<string> {
  const packages = await guestPackages();
  const sources = [import.meta.path, ...(await guestScripts())];
  const texts = await Promise.all(sources.map((path) => Bun.file(path).text()));
  const key = keyOf(kernel.dir, ...[...packages].flat(), ...texts);
  const name = `root-${kernel.line}-`;
  const dir = await cached(`${name}${key}`, async (into) => {
    note(`building the guest's root file system for ${kernel.release}`);
    const root = join(into, "root");
    await fill(root, [...packages.keys()], kernel);
    await image(join(into, "root.img"), root, 1024);
    await host(["rm", "-rf", root]);
  });
  await prune(name, 2);
  return join(dir, "root.img");
}

const guestScripts = async () =>
  (await readdir(GUEST_SCRIPTS)).toSorted().map((name) => join(GUEST_SCRIPTS, name));

async function fill(root: string, packages: string[], kernel: Kernel): Promise<void> {
  const folders = ["dev", "proc", "sys", "run", "tmp", "root", "etc", "lab", "mnt", "data", "usr"];
  for (const name of [...folders, "usr/local/bin", "opt/ublk", "var/lib", "var/log"]) {
    await mkdir(join(root, name), { recursive: true });
  }
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    await mkdir(join(root, "usr", name), { recursive: true });
    await symlink(`usr/${name}`, join(root, name)); // as on every Debian since 12
  }
  await symlink("/run", join(root, "var/run"));
  await symlink("/opt/ublk/ublk", join(root, "usr/local/bin/ublk"));
  const files = await packageFiles(packages);
  const all = followed([...files, ...(await sharedLibraries(files))]);
  const how = ["--no-dereference", "--preserve=mode,timestamps", "--parents"];
  await host(["cp", ...how, `--target-directory=${root}`, ...all]);
  for (const [path, lines] of Object.entries(ETC)) {
    await Bun.write(join(root, path), `${lines.join("\n")}\n`);
  }
  for (const path of await guestScripts())
    await host(["install", "-m755", path, join(root, "lab")]);
  await host(["cp", "-a", join(kernel.dir, "usr/lib/modules"), join(root, "usr/lib")]);
  await host(["/sbin/ldconfig", "-r", root]);
}

async function packageFiles(packages: string[]): Promise<string[]> {
  const listed = (await host(["dpkg-query", "--listfiles", ...packages])).split("\n");
  const present = (path: string) => lstatSync(path, { throwIfNoEntry: false });
  return [...new Set(listed)].filter((path) => {
    if (!path.startsWith("/") || UNUSED.test(path)) return false;
    const info = present(path);
    return info !== undefined && !info.isDirectory();
  });
}

/** What the programs among these files are linked with, by the host's own loader. */
async function sharedLibraries(files: string[]): Promise<string[]> {
  const programs = files.filter((path) => /\/s?bin\/|\/lib\/udev\/|systemd|\.so/.test(path));
  const text = await host(["sh", "-c", 'ldd "$@" 2>/dev/null || :', "ldd", ...programs]);
  const paths = new Set<string>();
  for (const [, path = ""] of text.matchAll(/(?:=>|^)\s+(\/\S+) \(0x/gm)) paths.add(path);
  return [...paths];
}

/** These paths in their real folders, and what symbolic links among them lead to. */
function followed(paths: string[]): string[] {
  const root = new Set(["/bin", "/sbin", "/lib", "/lib64", "/var/run"]); // made already
  const found = new Set<string>();
  const queue = [...paths];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (!existsSync(path)) continue;
    const real = join(realpathSync(dirname(path)), basename(path));
    const info = lstatSync(real);
    if (found.has(real) || info.isDirectory() || root.has(real)) continue;
    if (info.isSymbolicLink()) queue.push(resolve(dirname(real), readlinkSync(real)));
    else if (!readable(real)) continue;
    found.add(real);
  }
  return [...found];
}

function readable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false; // not root: the guest does without this one
  }
}

/** An ext4 file system of `mebibytes`, holding what `tree` holds. Sparse. */
async function image(path: string, tree: string | undefined, mebibytes: number): Promise<void> {
  // No lazy initialisation: it would write in the background while a story measures.
  const options = "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard";
  const from = tree === undefined ? [] : ["-d", tree];
  const shape = ["-t", "ext4", "-O", "^resize_inode", "-J", "size=16", "-N", "16384"];
  await host(["mke2fs", "-q", "-F", ...shape, "-E", options, ...from, path, `${mebibytes}M`]);
}

/** A read-only disk that holds the program under test; empty while it is not built. */
export async function programImage(program: string): Promise<string> {
  const file = Bun.file(program);
  const content = (await file.exists()) ? Bun.hash(await file.bytes()).toString(16) : "none";
  const dir = await cached(`program-${content}`, async (into) => {
    const tree = join(into, "tree");
    await mkdir(tree);
    if (content !== "none") await host(["install", "-m755", program, join(tree, "ublk")]);
    await image(join(into, "program.img"), tree, Math.ceil(file.size / 2 ** 20) + 64);
    await host(["rm", "-rf", tree]);
  });
  await prune("program-", 4);
  return join(dir, "program.img");
}

/** An empty file system, to be copied for each guest that wants a scratch disk. */
export async function scratchImage(): Promise<string> {
  const key = keyOf(await Bun.file(import.meta.path).text());
  const dir = await cached(`scratch-${key}`, (into) =>
    image(join(into, "scratch.img"), undefined, 4096),
  );
  await prune("scratch-", 2);
  return join(dir, "scratch.img");
}
