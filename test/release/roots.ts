/** Root file systems that hold a C library, the executable, and what is said here; nothing else. */

import { existsSync } from "node:fs";
import { mkdir, symlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type Architecture, packageRecord, type Suite, unpackPackages } from "../vm/apt.ts";
import { cached, keyOf, prune } from "../vm/cache.ts";
import { host, LabError } from "../vm/host.ts";
import type { Kernel } from "../vm/kernel.ts";

const GUEST = join(import.meta.dir, "guest");
const SUITE: Suite = "trixie";

/** The loader, and the libraries that the executable names, in Debian's libc6. */
const GLIBC = ["libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2"];
const ARM64_PACKAGES = [
  ...["libc6", "busybox-static", "e2fsprogs"],
  ...["libext2fs2t64", "libcom-err2", "libblkid1", "libuuid1"],
];

/** Packages in one folder, kept for the next time. */
export async function unpacked(names: string[], architecture: Architecture): Promise<string> {
  const versions = await Promise.all(
    names.map(async (name) => (await packageRecord(SUITE, name, architecture)).get("SHA256")),
  );
  const prefix = `packages-${architecture}-${keyOf(...names)}-`;
  const path = await cached(`${prefix}${keyOf(...versions.map(String))}`, (into) =>
    unpackPackages(SUITE, names, into, architecture),
  );
  await prune(prefix, 1);
  return path;
}

async function put(from: string, to: string): Promise<void> {
  await host(["install", "-D", "--mode=755", from, to]);
}

/** What every root has: folders to mount on, the executable, the driver, an image of `size`. */
async function begin(
  root: string,
  executable: string,
  kernel: Kernel,
  size: string,
): Promise<void> {
  for (const name of ["dev", "proc", "sys", "run", "tmp", "mnt", "etc"]) {
    await mkdir(join(root, name), { recursive: true });
  }
  await put(executable, join(root, "ublk"));
  const modules = join(kernel.dir, "usr/lib/modules", kernel.release);
  await put(join(modules, "kernel/drivers/block/ublk_drv.ko"), join(root, "ublk_drv.ko"));
  const image = ["-q", "-f", "qcow2", join(root, "disk.qcow2"), size];
  await host(["qemu-img", "create", ...image]);
}

/** Our own first process, which needs no library at all. */
async function staticInit(root: string): Promise<void> {
  if (Bun.which("cc") === null) throw new LabError("there is no cc: apt-get install gcc libc6-dev");
  await host(["cc", "-static", "-O1", "-o", join(root, "init"), join(GUEST, "init.c")]);
}

/** glibc and nothing else. */
export async function glibcRoot(root: string, executable: string, kernel: Kernel): Promise<void> {
  await begin(root, executable, kernel, "16M");
  await staticInit(root);
  const tree = await unpacked(["libc6"], "amd64");
  for (const name of GLIBC) {
    const from = join(tree, "usr/lib/x86_64-linux-gnu", name);
    await put(from, join(root, "lib/x86_64-linux-gnu", name));
  }
  const loader = "lib64/ld-linux-x86-64.so.2";
  const library = join(tree, "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
  await put(existsSync(library) ? library : join(tree, "usr", loader), join(root, loader));
}

/** musl of Debian, and the C++ library that Bun's build for musl wants. */
export async function muslRoot(root: string, executable: string, kernel: Kernel): Promise<void> {
  await begin(root, executable, kernel, "16M");
  await staticInit(root);
  const tree = await unpacked(["musl", "libstdc++-14-pic"], "amd64");
  const musl = join(tree, "usr/lib/x86_64-linux-musl/libc.so");
  await put(musl, join(root, "lib/ld-musl-x86_64.so.1"));
  await linkCxx(tree, musl, executable, join(root, "lib/libstdc++.so.6"));
}

/** Debian has no C++ library for musl, but position-independent objects to link one from. */
async function linkCxx(tree: string, musl: string, user: string, to: string): Promise<void> {
  const gcc = dirname((await host(["cc", "-print-libgcc-file-name"])).trim());
  const wanted = await undefinedSymbols(user);
  const objects = "usr/lib/gcc/x86_64-linux-gnu/14/libstdc++_pic.a";
  await host([
    ...["cc", "-w", "-shared", "-fPIC", "-fno-stack-protector", "-nostdlib", "-Wl,--gc-sections"],
    ...["-o", to, `-Wl,-soname,${basename(to)}`],
    ...wanted.map((symbol) => `-Wl,--undefined=${symbol}`),
    ...[join(gcc, "crtbeginS.o"), join(GUEST, "musl_cxx.c"), join(tree, objects)],
    ...[join(gcc, "libgcc_eh.a"), join(gcc, "libgcc.a")],
    ...["-L", dirname(musl), `-l:${basename(musl)}`, join(gcc, "crtendS.o")],
  ]);
}

/** What an executable wants of the C++ library. */
async function undefinedSymbols(path: string): Promise<string[]> {
  const table = await host(["readelf", "--dyn-syms", "--wide", path]);
  const found = table.matchAll(/ UND ((?:_Z|__cxa_|__dynamic_cast|__once|__gxx|_Unwind)\S*)/g);
  return [...found].map((match) => match[1]!);
}

/** glibc, busybox and mke2fs, all of Debian's arm64. */
export async function arm64Root(root: string, executable: string, kernel: Kernel): Promise<void> {
  await begin(root, executable, kernel, "256M");
  const tree = await unpacked(ARM64_PACKAGES, "arm64");
  for (const name of ["bin", "sbin", "lib"]) {
    await mkdir(join(root, "usr", name), { recursive: true });
    await symlink(`usr/${name}`, join(root, name));
  }
  for (const name of ["usr/bin/busybox", "usr/sbin/mke2fs", "usr/sbin/e2fsck", "etc/mke2fs.conf"]) {
    await put(join(tree, name), join(root, name));
  }
  await host(["cp", "-a", join(tree, "usr/lib/aarch64-linux-gnu"), join(root, "usr/lib")]);
  await host(["rm", "-rf", join(root, "usr/lib/aarch64-linux-gnu/gconv")]);
  await symlink(
    "aarch64-linux-gnu/ld-linux-aarch64.so.1",
    join(root, "usr/lib/ld-linux-aarch64.so.1"),
  );
  await put(join(GUEST, "init.sh"), join(root, "init"));
}
