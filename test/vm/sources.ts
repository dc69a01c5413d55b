/** Debian's packages that something is built from: the kernel's source, libraries. */

import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { packageTree, type Suite, SUITES } from "./apt.ts";
import { host, LabError } from "./host.ts";

const NEWEST_FIRST: Suite[] = SUITES.toReversed();

/** The package of just this name. */
export const exactly = (name: string) => new RegExp(`^${name.replaceAll(".", "\\.")}$`);

export interface Package {
  suite: Suite;
  /** Its files. */
  tree: string;
}

/** The kernel's source of a line, such as "7.2". */
export const kernelSource = (line: string): Promise<Package> =>
  newest(line === "rc" ? /^linux-source-\d+\.\d+$/ : exactly(`linux-source-${line}`));

/** From the newest suite that has it, or rather from `first`. */
export async function newest(name: RegExp, first?: Suite): Promise<Package> {
  let last = new LabError(`no suite has ${name.source}`);
  for (const suite of first ? [first, ...NEWEST_FIRST] : NEWEST_FIRST) {
    try {
      return { suite, tree: await packageTree(suite, name) };
    } catch (error) {
      if (!(error instanceof LabError)) throw error;
      last = error;
    }
  }
  throw last;
}

/** "linux-source-7.2 7.2.12-1", by the changelog that every package has. */
export async function version(tree: string): Promise<string> {
  const docs = join(tree, "usr/share/doc");
  for (const name of (await readdir(docs)).filter((one) => /linux-source|liburing/.test(one))) {
    const file = ["changelog.Debian.gz", "changelog.gz"].map((one) => join(docs, name, one));
    const path = file.find((one) => existsSync(one));
    if (path === undefined) continue;
    const text = new TextDecoder().decode(Bun.gunzipSync(await Bun.file(path).bytes()));
    return `${name} ${/\(([^)]+)\)/.exec(text)?.[1] ?? "of unknown version"}`;
  }
  return basename(tree);
}

/** Unpacks the kernel's source, or what of it tar's `options` say. */
export async function unpackSource(tree: string, into: string, options: string[]): Promise<void> {
  const folder = join(tree, "usr/src");
  const archive = (await readdir(folder)).find((name) => /^linux-source-.*\.tar\./.test(name));
  if (!archive) throw new LabError(`${basename(tree)} holds no archive of sources`);
  const from = ["--strip-components=1", "-xf", join(folder, archive)];
  await host(["tar", "-C", into, ...from, ...options]);
}
