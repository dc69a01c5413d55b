// The Debian packages the laboratory takes its programs from: looked for, installed when root.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { cacheDir } from "./cache.ts";
import { host, hostShown, LabError, note } from "./host.ts";
import { exclusively } from "./lock.ts";

const DPKG_QUERY = "/usr/bin/dpkg-query";

/** Run on the host. */
const TOOLS = ["qemu-system-x86", "e2fsprogs", "kmod", "xz-utils", "util-linux"];

/** What `bun run check` judges with: images, structs in C, a manual, units, completion. */
const CHECK_TOOLS = [
  ...["liburing2", "qemu-utils", "gcc", "libc6-dev", "groff-base", "mandoc", "systemd"],
  ...["zsh", "fish"],
];

/** To run every executable of a release: another processor, and a first process in C. */
export const RELEASE_TOOLS = [
  "qemu-system-arm",
  "qemu-utils",
  "gcc",
  "libc6-dev",
  "binutils",
  "cpio",
];

/** Their files make the guest's root file system. */
const GUEST_PACKAGES = [
  ...["base-files", "bash", "coreutils", "dash", "diffutils", "findutils", "grep", "gzip"],
  ...["iproute2", "libc6", "libc-bin", "libgcc-s1", "mawk", "ncurses-base", "sed", "tar"],
  ...["fdisk", "kmod", "mount", "procps", "psmisc", "strace", "systemd", "udev", "util-linux"],
  ...["bsdutils", "dmsetup", "e2fsprogs", "fio", "liburing2", "qemu-utils", "xfsprogs"],
];

/** As Debian calls this machine. */
const NATIVE = process.arch === "x64" ? "amd64" : process.arch;

/** Which of these packages are there, with versions. */
async function installed(wanted: readonly string[]): Promise<Map<string, string>> {
  const format = "${Package} ${Version} ${db:Status-Status} ${Architecture}\n";
  const found = new Map<string, string>();
  for (const line of (await host(["dpkg-query", "-W", "-f", format])).split("\n")) {
    const [name = "", version = "", status, architecture] = line.split(" ");
    const ours = architecture === NATIVE || architecture === "all";
    if (status === "installed" && ours && wanted.includes(name)) found.set(name, version);
  }
  return found;
}

const missing = (wanted: readonly string[], found: Map<string, string>) =>
  wanted.filter((name) => !found.has(name));

/** What unit tests and the simulation need; nothing where there is no Debian to install it. */
export async function checkPackages(): Promise<void> {
  if (existsSync(DPKG_QUERY)) await need(CHECK_TOOLS);
}

/** Makes sure that everything is installed. Answers with the guest's packages and versions. */
export async function guestPackages(): Promise<Map<string, string>> {
  if (process.arch !== "x64") throw new LabError("the laboratory emulates x86-64 on x86-64 only");
  await need([...TOOLS, ...GUEST_PACKAGES]);
  return installed(GUEST_PACKAGES);
}

/** Installs what is missing, as root; otherwise says what that is. */
export async function need(wanted: readonly string[]): Promise<void> {
  if (!existsSync(DPKG_QUERY)) {
    throw new LabError("the laboratory needs Debian: it builds its guest from installed packages");
  }
  let absent = missing(wanted, await installed(wanted));
  if (absent.length > 0) {
    await exclusively(join(cacheDir, "lock"), () => install(absent));
    absent = missing(wanted, await installed(wanted));
  }
  if (absent.length > 0) throw lacking(absent);
}

const lacking = (absent: string[]) =>
  new LabError(`Debian packages are missing: run apt-get install ${absent.join(" ")} as root`);

async function install(absent: string[]): Promise<void> {
  if (process.getuid?.() !== 0) throw lacking(absent);
  note(`installing ${absent.join(" ")}`);
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  await hostShown(["apt-get", "-q", "update"], { env });
  await hostShown(["apt-get", "-q", "-y", "--no-install-recommends", "install", ...absent], {
    env,
  });
}
