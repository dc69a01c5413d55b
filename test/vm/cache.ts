// The laboratory's cache folder: entries appear complete or not at all, whoever else is working.

import { mkdtemp, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { exclusively } from "./lock.ts";

const ASIDE = "aside-";
const PASSING = "guest-";
const OURS = /^(?:aside|guest)-(\d+)-/;

export const cacheDir = join(
  process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"),
  "ublk-lab",
);

export function keyOf(...parts: string[]): string {
  return new Bun.CryptoHasher("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}

/**
 * The folder `name` of the cache, made by `make` if it is not there yet. It is made aside and
 * renamed, so that an interrupted run leaves nothing that looks finished.
 */
export async function cached(name: string, make: (dir: string) => Promise<void>): Promise<string> {
  const path = join(cacheDir, name);
  if (!existsSync(path)) {
    await exclusively(join(cacheDir, "lock"), async () => {
      if (!existsSync(path)) await makeAside(path, make);
    });
  }
  const now = new Date();
  await utimes(path, now, now); // used: `prune` keeps what was used last
  return path;
}

async function makeAside(path: string, make: (dir: string) => Promise<void>): Promise<void> {
  await removeOrphans();
  const aside = await mkdtemp(join(cacheDir, `${ASIDE}${process.pid}-`));
  try {
    await make(aside);
    await rename(aside, path);
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/** A folder for as long as this process lives. */
export async function passingDir(): Promise<string> {
  await removeOrphans();
  return mkdtemp(join(cacheDir, `${PASSING}${process.pid}-`));
}

/** A small fact from an earlier run. */
export async function recall<T>(name: string): Promise<T | undefined> {
  const file = Bun.file(join(cacheDir, `${name}.json`));
  return (await file.exists()) ? ((await file.json()) as T) : undefined;
}

export async function remember(name: string, fact: unknown): Promise<void> {
  const path = join(cacheDir, `${name}.json`);
  await Bun.write(`${path}.${process.pid}`, JSON.stringify(fact));
  await rename(`${path}.${process.pid}`, path);
}

/** Keeps the `keep` entries of this kind that were used last. */
export async function prune(prefix: string, keep: number): Promise<void> {
  const names = (await readdir(cacheDir)).filter((name) => name.startsWith(prefix));
  const aged = await Promise.all(
    names.map(async (name) => {
      const path = join(cacheDir, name);
      return { path, used: (await stat(path).catch(() => undefined))?.mtimeMs ?? 0 };
    }),
  );
  aged.sort((a, b) => b.used - a.used);
  await Promise.all(aged.slice(keep).map(({ path }) => rm(path, { recursive: true, force: true })));
}

export async function ageInHours(path: string): Promise<number> {
  const info = await stat(path).catch(() => undefined);
  return info ? (Date.now() - info.mtimeMs) / 3_600_000 : Infinity;
}

/** What interrupted runs left behind: folders of processes that are gone. */
export async function removeOrphans(): Promise<void> {
  for (const name of await readdir(cacheDir)) {
    const pid = OURS.exec(name)?.[1];
    if (!pid || existsSync(`/proc/${pid}`)) continue;
    // Another of our processes may be at it, too.
    await rm(join(cacheDir, name), { recursive: true, force: true }).catch(() => undefined);
  }
}
