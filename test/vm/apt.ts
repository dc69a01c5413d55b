// Asks Debian's archive through apt, without touching the sources or lists of the system.

import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { ageInHours, cacheDir, cached, keyOf, prune } from "./cache.ts";
import { host, hostShown, LabError, note } from "./host.ts";
import { newest } from "./versions.ts";

export const SUITES = ["trixie", "trixie-backports", "experimental"] as const;
export type Suite = (typeof SUITES)[number];

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const INDEX_LASTS_HOURS = 20;

/** Where this machine already gets Debian from; no address is written down here. */
async function archiveAddress(): Promise<string> {
  const ask = async () => {
    const format = ["--format", "$(REPO_URI)", "Origin: Debian", "Label: Debian"];
    const lines = await host(["apt-get", "indextargets", "Identifier: Packages", ...format]);
    return lines.split("\n").find((line) => line !== "");
  };
  let address = await ask();
  if (!address && process.getuid?.() === 0) {
    note("apt has no package lists yet: apt-get update");
    await hostShown(["apt-get", "-q", "update"]);
    address = await ask();
  }
  if (address) return address;
  throw new LabError(
    "apt knows no Debian archive: add one to its sources and run apt-get update as root",
  );
}

/** Options that make apt look at `index` alone. Nothing counts as installed. */
function isolated(index: string, suite?: Suite): string[] {
  return [
    `Dir::Etc::SourceList=${join(index, suite ? `${suite}.list` : "all.list")}`,
    "Dir::Etc::SourceParts=/dev/null",
    "Dir::Etc::Preferences=/dev/null",
    "Dir::Etc::PreferencesParts=/dev/null",
    `Dir::State=${join(index, "state")}`,
    `Dir::State::Status=${join(index, "status")}`,
    `Dir::Cache=${join(index, "cache")}`,
    "Dir::Cache::pkgcache=", // in memory: another process may be reading the same index
    "Dir::Cache::srcpkgcache=",
    "APT::Sandbox::User=root", // the cache belongs to the caller, apt's own user cannot enter it
    "APT::Architecture=amd64",
    "APT::Architectures=amd64",
    "Acquire::Languages=none",
  ].flatMap((option) => ["-o", option]);
}

async function makeIndex(dir: string): Promise<void> {
  const address = await archiveAddress();
  const line = (suite: Suite) => `deb [signed-by=${KEYRING}] ${address} ${suite} main\n`;
  await Bun.write(join(dir, "all.list"), SUITES.map(line).join(""));
  for (const suite of SUITES) await Bun.write(join(dir, `${suite}.list`), line(suite));
  await Bun.write(join(dir, "status"), "");
  await mkdir(join(dir, "state/lists/partial"), { recursive: true });
  await mkdir(join(dir, "cache/archives/partial"), { recursive: true });
  note(`asking the Debian archive what ${SUITES.join(", ")} have`);
  await hostShown(["apt-get", "-q", ...isolated(dir), "update"]);
}

/** The archive's index, at most a day old. One process asks once. */
const index = once(async () => {
  const names = (await readdir(cacheDir).catch(() => [])).filter((name) => name.startsWith("apt-"));
  for (const name of names) {
    if ((await ageInHours(join(cacheDir, name, "all.list"))) < INDEX_LASTS_HOURS) {
      return join(cacheDir, name);
    }
  }
  const path = await cached(`apt-${keyOf(new Date().toISOString())}`, makeIndex);
  await prune("apt-", 2);
  return path;
});

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => (made ??= make());
}

/** Names of the packages of a suite that match. */
export async function packageNames(suite: Suite, pattern: RegExp): Promise<string[]> {
  const names = await host(["apt-cache", ...isolated(await index(), suite), "pkgnames"]);
  return names.split("\n").filter((name) => pattern.test(name));
}

/** The newest version of a package in a suite. */
export async function newestVersion(suite: Suite, name: string): Promise<string> {
  const lines = await host(["apt-cache", ...isolated(await index(), suite), "madison", name]);
  const version = lines.split("|")[1]?.trim();
  if (!version) throw new LabError(`${suite} has no package ${name}`);
  return version;
}

/** Downloads packages, checked by apt against the archive's signature, and unpacks them. */
export async function unpackPackages(suite: Suite, names: string[], into: string): Promise<void> {
  const debs = join(into, ".debs");
  await mkdir(debs, { recursive: true });
  const quiet = process.stderr.isTTY ? [] : ["-q"];
  const options = [...quiet, ...isolated(await index(), suite)];
  note(`downloading ${names.join(", ")} (${suite})`);
  await hostShown(["apt-get", ...options, "download", ...names.map((n) => `${n}/${suite}`)], {
    cwd: debs,
  });
  for (const deb of await readdir(debs)) {
    await host(["dpkg-deb", "--extract", join(debs, deb), into]);
  }
  await host(["rm", "-rf", debs]);
}

/** The unpacked tree of the newest package of `suite` whose name matches, for tests that need it. */
export async function packageTree(suite: Suite, pattern: RegExp): Promise<string> {
  const name = newest(await packageNames(suite, pattern));
  if (!name) throw new LabError(`${suite} has no package like ${pattern.source}`);
  const version = await newestVersion(suite, name);
  const path = await cached(`package-${name}-${keyOf(version)}`, (dir) =>
    unpackPackages(suite, [name], dir),
  );
  await prune(`package-${name}-`, 2);
  return path;
}
