// Asks Debian's archive through apt, without touching the sources or lists of the system.

import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { ageInHours, cacheDir, cached, keyOf, prune, recall, remember } from "./cache.ts";
import { host, hostShown, LabError, note } from "./host.ts";
import { exclusively } from "./lock.ts";
import { newest } from "./versions.ts";

export const SUITES = ["trixie", "trixie-backports", "experimental"] as const;
export type Suite = (typeof SUITES)[number];
/** Of packages, in Debian's words. */
export type Architecture = "amd64" | "arm64";

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const INDEX_LASTS_HOURS = 20;
const TREE_LASTS_MS = 7 * 24 * 3_600_000;

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
function isolated(index: string, architecture: Architecture, suite?: Suite): string[] {
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
    `APT::Architecture=${architecture}`,
    `APT::Architectures=${architecture}`,
    "Acquire::Languages=none",
  ].flatMap((option) => ["-o", option]);
}

async function makeIndex(dir: string, architecture: Architecture): Promise<void> {
  const address = await archiveAddress();
  const line = (suite: Suite) => `deb [signed-by=${KEYRING}] ${address} ${suite} main\n`;
  await Bun.write(join(dir, "all.list"), SUITES.map(line).join(""));
  for (const suite of SUITES) await Bun.write(join(dir, `${suite}.list`), line(suite));
  await Bun.write(join(dir, "status"), "");
  await mkdir(join(dir, "state/lists/partial"), { recursive: true });
  await mkdir(join(dir, "cache/archives/partial"), { recursive: true });
  note(`asking the Debian archive what ${SUITES.join(", ")} have for ${architecture}`);
  await hostShown(["apt-get", "-q", ...isolated(dir, architecture), "update"]);
}

/** Entries of the cache: the first is older than the second architecture. */
const INDEX = { amd64: "apt-", arm64: "arm64-apt-" } as const;

const known = new Map<Architecture, Promise<string>>();

/** The archive's index, at most a day old. */
function index(architecture: Architecture): Promise<string> {
  const found =
    known.get(architecture) ?? exclusively(join(cacheDir, "lock"), () => findIndex(architecture));
  known.set(architecture, found);
  return found;
}

async function findIndex(architecture: Architecture): Promise<string> {
  const prefix = INDEX[architecture];
  for (const name of await readdir(cacheDir)) {
    const path = join(cacheDir, name);
    if (!name.startsWith(prefix)) continue;
    if ((await ageInHours(join(path, "all.list"))) < INDEX_LASTS_HOURS) return path;
  }
  const entry = `${prefix}${keyOf(new Date().toISOString())}`;
  const path = await cached(entry, (dir) => makeIndex(dir, architecture));
  await prune(prefix, 1);
  return path;
}

/** Packages leave the archive: what an old index promises may be gone. */
export async function forgetIndex(architecture: Architecture = "amd64"): Promise<void> {
  known.delete(architecture);
  await prune(INDEX[architecture], 0);
}

/** apt-cache, looking at one suite. */
async function aptCache(architecture: Architecture, suite: Suite, ...words: string[]) {
  const options = isolated(await index(architecture), architecture, suite);
  return host(["apt-cache", ...options, ...words]);
}

/** Names of the packages of a suite that match. */
export async function packageNames(
  suite: Suite,
  pattern: RegExp,
  architecture: Architecture = "amd64",
): Promise<string[]> {
  const names = await aptCache(architecture, suite, "pkgnames");
  return names.split("\n").filter((name) => pattern.test(name));
}

/** The newest version of a package in a suite. */
export async function newestVersion(
  suite: Suite,
  name: string,
  architecture: Architecture = "amd64",
): Promise<string> {
  const lines = await aptCache(architecture, suite, "madison", name);
  const version = lines.split("|")[1]?.trim();
  if (!version) throw new LabError(`${suite} has no package ${name}`);
  return version;
}

/** The names that a package depends on, without their versions. */
export async function dependencies(
  suite: Suite,
  name: string,
  architecture: Architecture = "amd64",
): Promise<string[]> {
  const text = await aptCache(architecture, suite, "show", name);
  const list = /^Depends: (.*)$/m.exec(text)?.[1] ?? "";
  return list.split(/[,|]/).map((one) => one.trim().split(" ")[0] ?? "");
}

/** What the archive says of the newest version of a package: "Version", "SHA256" and so on. */
export async function packageRecord(
  suite: Suite,
  name: string,
  architecture: Architecture = "amd64",
): Promise<Map<string, string>> {
  const text = await aptCache(architecture, suite, "show", "--no-all-versions", name);
  const fields = text.matchAll(/^([\w-]+): (.*)$/gm);
  return new Map([...fields].map(([, key = "", value = ""]) => [key, value]));
}

/** Downloads packages, checked by apt against the archive's signature, and unpacks them. */
export async function unpackPackages(
  suite: Suite,
  names: string[],
  into: string,
  architecture: Architecture = "amd64",
): Promise<void> {
  const debs = join(into, ".debs");
  await mkdir(debs, { recursive: true });
  const quiet = process.stderr.isTTY ? [] : ["-q"];
  const options = [...quiet, ...isolated(await index(architecture), architecture, suite)];
  note(`downloading ${names.join(", ")} (${suite}, ${architecture})`);
  await hostShown(["apt-get", ...options, "download", ...names.map((n) => `${n}/${suite}`)], {
    cwd: debs,
  });
  for (const deb of await readdir(debs)) {
    await host(["dpkg-deb", "--extract", join(debs, deb), into]);
  }
  await host(["rm", "-rf", debs]);
}

/**
 * The unpacked tree of the newest package of `suite` whose name matches, for tests that need it.
 * The archive is asked once a week; without a network the last answer serves.
 */
export async function packageTree(suite: Suite, pattern: RegExp): Promise<string> {
  const fact = `package-${keyOf(suite, pattern.source)}`;
  const last = await recall<{ path: string; asked: number }>(fact);
  const there = last && existsSync(last.path) ? last : undefined;
  if (there && Date.now() - there.asked < TREE_LASTS_MS) return there.path;
  try {
    const name = newest(await packageNames(suite, pattern));
    if (!name) throw new LabError(`${suite} has no package like ${pattern.source}`);
    const entry = `package-${name}-${keyOf(await newestVersion(suite, name))}`;
    const path = await cached(entry, (dir) => unpackPackages(suite, [name], dir));
    await remember(fact, { path, asked: Date.now() });
    return path;
  } catch (error) {
    if (!there || !(error instanceof LabError)) throw error;
    note(`cannot ask the archive, using ${there.path}`);
    return there.path;
  }
}
