// A Debian kernel to boot: found in the archive, unpacked, reduced to the modules stories need.

import { readdir } from "node:fs/promises";
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import {
  dependencies,
  type Architecture,
  forgetIndex,
  newestVersion,
  packageNames,
  type Suite,
  SUITES,
  unpackPackages,
} from "./apt.ts";
import { cached, keyOf, prune, recall, remember } from "./cache.ts";
import { host, LabError, note } from "./host.ts";
import { guestPackages } from "./packages.ts";
import { newestKernel } from "./versions.ts";

export interface Kernel {
  line: string;
  architecture: Architecture;
  release: string;
  /** The folder with `vmlinux` (the file that QEMU takes) and `usr/lib/modules/`. */
  dir: string;
}

/** A line of kernels that the archive does not have today. */
export interface NoKernel {
  line: string;
  missing: string;
}

const CHOICE_LASTS_MS = 20 * 3_600_000;

/** What stories may load, besides what these need. What the kernel has built in is not missed. */
const MODULES = [
  ...["ublk_drv", "virtio_blk", "loop", "null_blk", "brd", "zram", "nbd", "scsi_debug"],
  ...["xfs", "btrfs", "vfat", "overlay", "nls_ascii", "nls_cp437", "libcrc32c", "crc32c-intel"],
  ...["dm-mod", "dm-flakey", "dm-delay", "dm-log-writes", "dm-snapshot", "dm-thin-pool"],
  ...["dm-crypt", "dm-integrity", "crc-t10dif", "crct10dif_common", "virtio_net", "zonefs"],
];

interface Choice {
  architecture: Architecture;
  suite: Suite;
  /** Packages: the image first, then those that hold its files. */
  parts: string[];
  version: string;
  /** When, in milliseconds. */
  asked: number;
}

/** Finds, downloads and unpacks the newest kernel of a line, unless the cache has it. */
export async function prepareKernel(
  line: string,
  architecture: Architecture = "amd64",
): Promise<Kernel | NoKernel> {
  await guestPackages(); // before anything is downloaded, and kmod's programs unpack a kernel
  const choice = await choose(line, architecture);
  if (typeof choice === "string") return { line, missing: choice };
  try {
    return await unpacked(line, choice);
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    note(`${choice.parts[0]} cannot be had, asking the archive again: ${error.message}`);
    await forgetIndex(architecture);
    const other = await ask(line, architecture);
    return typeof other === "string" ? { line, missing: other } : unpacked(line, other);
  }
}

async function unpacked(line: string, choice: Choice): Promise<Kernel> {
  const [image = "", ...others] = choice.parts;
  const release = image.replace("linux-image-", "");
  const key = keyOf(image, ...others, choice.version, ...MODULES);
  const { architecture } = choice;
  const prefix = `kernel-${ofLine(line, architecture)}-`;
  const dir = await cached(`${prefix}${key}`, (into) => unpackKernel(choice, release, into));
  await prune(prefix, 2);
  return { line, architecture, release, dir };
}

/** In names of the cache's entries. */
const ofLine = (line: string, architecture: Architecture) =>
  architecture === "amd64" ? line : `${architecture}-${line}`;

/** The archive is asked once a day; without a network yesterday's answer serves. */
async function choose(line: string, architecture: Architecture): Promise<Choice | string> {
  const fact = `choice-${ofLine(line, architecture)}`;
  const known = await recall<Choice>(fact);
  if (known?.architecture && Date.now() - known.asked < CHOICE_LASTS_MS) return known;
  try {
    const choice = await ask(line, architecture);
    if (typeof choice !== "string") await remember(fact, choice);
    return choice;
  } catch (error) {
    if (!known?.architecture || !(error instanceof LabError)) throw error;
    note(`cannot ask the archive, using ${known.parts[0]}: ${error.message.split("\n")[0]}`);
    return known;
  }
}

/** The newest kernel of the line of which nothing is missing, in the first suite with one. */
async function ask(line: string, architecture: Architecture): Promise<Choice | string> {
  const suites: readonly Suite[] = line === "rc" ? ["experimental"] : SUITES;
  let missing = `no suite of ${suites.join(", ")} has a ${line} kernel today`;
  for (const suite of suites) {
    const names = await packageNames(suite, /^linux-(image|binary|modules)-/, architecture);
    const there = new Set(names);
    const name = newestKernel(names, line, architecture);
    if (!name) continue;
    // Newer kernels are split: the image package is empty, binary and modules hold the files.
    const needed = await dependencies(suite, name, architecture);
    const parts = [name, ...needed.filter((one) => /^linux-(binary|modules)-/.test(one))];
    const gone = parts.filter((one) => !there.has(one));
    if (gone.length === 0) {
      const version = await newestVersion(suite, name, architecture);
      return { architecture, suite, parts, version, asked: Date.now() };
    }
    missing = `${name} is in ${suite}, but ${gone.join(", ")} left the archive`;
  }
  return missing;
}

async function unpackKernel(choice: Choice, release: string, into: string) {
  const tree = join(into, "tree");
  await unpackPackages(choice.suite, choice.parts, tree, choice.architecture);
  const image = await Bun.file(imageIn(tree, release)).bytes();
  // arm64 has no decompressor of its own: there the file is what QEMU takes.
  const entered = choice.architecture === "amd64" ? uncompressed(image) : image;
  await Bun.write(join(into, "vmlinux"), entered);
  await keepModules(tree, release, into);
  await host(["rm", "-rf", tree]);
}

function imageIn(tree: string, release: string): string {
  const places = [`boot/vmlinuz-${release}`, `usr/lib/modules/${release}/vmlinuz`];
  const path = places.map((place) => join(tree, place)).find((place) => existsSync(place));
  if (path) return path;
  throw new LabError(`the packages of ${release} hold no ${places.join(" or ")}`);
}

/**
 * The ELF file inside a bzImage (Documentation/arch/x86/boot.rst: payload_offset). QEMU enters it
 * by PVH and so skips firmware and decompressor, which are slow when emulated.
 */
function uncompressed(image: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const header = new DataView(image.buffer);
  const start = ((image[0x1f1] || 4) + 1) * 512 + header.getUint32(0x248, true);
  const payload = image.slice(start, start + header.getUint32(0x24c, true));
  if (header.getUint32(start, true) === 0xfd2fb528) {
    const frame = payload.subarray(0, -4); // the last word is the unpacked size
    return new Uint8Array(Bun.zstdDecompressSync(frame));
  }
  const unpacked = Bun.spawnSync(["xz", "--decompress", "--single-stream", "--stdout"], {
    stdin: payload,
  });
  if (unpacked.stdout.length > payload.length) return new Uint8Array(unpacked.stdout);
  throw new LabError("the kernel is compressed in an unknown way: expected zstd or xz");
}

async function keepModules(tree: string, release: string, into: string): Promise<void> {
  const all = join(tree, "usr");
  await host(["depmod", "-b", all, release]);
  const from = join(all, "lib/modules", release);
  const dependencies = await Bun.file(join(from, "modules.dep")).text();
  const kept = join(into, "usr/lib/modules", release);
  for (const path of withDependencies(dependencies, MODULES)) {
    const to = join(kept, path);
    await host(["install", "-D", "--mode=644", join(from, path), to]);
    if (to.endsWith(".xz")) await host(["xz", "--decompress", to]);
  }
  for (const name of await readdir(from)) {
    if (/^modules\.(builtin|order)/.test(name)) await host(["cp", join(from, name), kept]);
  }
  await host(["depmod", "-b", join(into, "usr"), release]);
}

/** Paths of the wanted modules and of all they need, from the text of modules.dep. */
export function withDependencies(modulesDep: string, wanted: readonly string[]): Set<string> {
  const names = new Set(wanted.map((name) => name.replaceAll("_", "-")));
  const paths = new Set<string>();
  for (const line of modulesDep.split("\n")) {
    const [path = "", needs = ""] = line.split(":");
    const name = basename(path)
      .replace(/\.ko.*$/, "")
      .replaceAll("_", "-");
    if (!names.has(name)) continue;
    for (const one of [path, ...needs.split(" ")]) if (one) paths.add(one);
  }
  return paths;
}
