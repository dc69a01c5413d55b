// One process at a time fills the cache; the others wait and then find everything there.

import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { note } from "./host.ts";

const PATIENCE_MS = 1000;

/** Within this process the lock is shared: what makes one entry may need another one. */
let users = 0;
let lock: Promise<() => Promise<void>> | undefined;

export async function exclusively<T>(path: string, work: () => Promise<T>): Promise<T> {
  if (users++ === 0) lock = acquire(path);
  try {
    await lock;
    return await work();
  } finally {
    if (--users === 0) await (await lock)?.();
  }
}

/** flock(1) holds it, and lets go when its input ends: with us at the latest. */
async function acquire(path: string): Promise<() => Promise<void>> {
  await mkdir(dirname(path), { recursive: true });
  const child = Bun.spawn(["flock", path, "sh", "-c", "echo; exec cat"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const timer = setTimeout(
    () => note("waiting for another run that is preparing the laboratory"),
    PATIENCE_MS,
  );
  await child.stdout.getReader().read();
  clearTimeout(timer);
  return async () => {
    await child.stdin.end();
    await child.exited;
  };
}
