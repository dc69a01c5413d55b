// The laboratory's cache folder: entries appear complete or not at all, whoever else is working.

import { mkdir, mkdtemp, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const ASIDE = "aside-";

export const cacheDir = join(
  process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"),
  "ublk-lab",
);

export function keyOf(...parts: string[]): string {
  return new Bun.CryptoHasher("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}

/**
 * The folder `name` of the cache, made by `make` if it is not there yet. It is made aside and
 * renamed, so that an interrupted run leaves nothing that looks finished. Two processes may both
 * make it; the first to finish wins and the other one uses what is there.
 */
export async function cached(name: string, make: (dir: string) => Promise<void>): Promise<string> {
  const path = join(cacheDir, name);
  if (existsSync(path)) {
    await touch(path);
    return path;
  }
  await mkdir(cacheDir, { recursive: true });
  await removeOrphans();
  const aside = await mkdtemp(join(cacheDir, `${ASIDE}${process.pid}-`));
  try {
    await make(aside);
    await rename(aside, path).catch((error: unknown) => {
      if (!existsSync(path)) throw error;
    });
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
  return path;
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

async function touch(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now).catch(() => undefined); // pruned meanwhile: the caller will see
}

/** What interrupted runs left behind: half-made folders of processes that are gone. */
async function removeOrphans(): Promise<void> {
  for (const name of await readdir(cacheDir)) {
    const pid = name.startsWith(ASIDE) ? name.slice(ASIDE.length).split("-")[0] : undefined;
    if (!pid || existsSync(`/proc/${pid}`)) continue;
    await rm(join(cacheDir, name), { recursive: true, force: true });
  }
}
