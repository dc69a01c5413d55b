/**
 * Builds kublk, the kernel's own test server, from Debian's source of the kernel that is measured
 * and the newest liburing, into the laboratory's cache.
 */

import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { packageTree, type Suite, SUITES } from "../vm/apt.ts";
import { cached, keyOf, prune } from "../vm/cache.ts";
import { host, LabError, note } from "../vm/host.ts";

const NEWEST_FIRST: Suite[] = SUITES.toReversed();
const SELFTESTS = "tools/testing/selftests/ublk";
/** As in the Makefile of the selftests. */
const CFLAGS = ["-O3", "-w", "-D_GNU_SOURCE"];
/** A program of its own in the same folder. */
const NOT_KUBLK = "metadata_size.c";

export interface Kublk {
  program: string;
  /** What it was built from, for the report. */
  origin: string;
}

/** The program, or the reason why there is none. */
export async function buildKublk(line: string): Promise<Kublk | { missing: string }> {
  try {
    if (Bun.which("cc") === null) throw new LabError("there is no cc");
    return await build(line);
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    return { missing: error.message.split("\n")[0] ?? "" };
  }
}

async function build(line: string): Promise<Kublk> {
  const source = await newest(
    line === "rc" ? /^linux-source-\d+\.\d+$/ : exactly(`linux-source-${line}`),
  );
  const headers = await newest(exactly("linux-libc-dev"), source.suite);
  const uring = await newest(exactly("liburing-dev"));
  const trees = [source, headers, uring].map(({ tree }) => basename(tree));
  const dir = await cached(`kublk-${keyOf(...trees, ...CFLAGS)}`, async (into) => {
    note("building kublk from Debian's kernel source");
    await unpackSelftests(source.tree, into);
    await compile(into, join(headers.tree, "usr/include"), uring.tree);
  });
  await prune("kublk-", 2);
  const versions = [await version(source.tree), await version(uring.tree)];
  return { program: join(dir, "kublk"), origin: versions.join(", ") };
}

const exactly = (name: string) => new RegExp(`^${name.replaceAll(".", "\\.")}$`);

/** From the newest suite that has it, or rather from `first`. */
async function newest(name: RegExp, first?: Suite): Promise<{ suite: Suite; tree: string }> {
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
async function version(tree: string): Promise<string> {
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

async function unpackSelftests(tree: string, into: string): Promise<void> {
  const folder = join(tree, "usr/src");
  const archive = (await readdir(folder)).find((name) => /^linux-source-.*\.tar\./.test(name));
  if (!archive) throw new LabError(`${basename(tree)} holds no archive of sources`);
  const only = ["--strip-components=1", "--wildcards", `*/${SELFTESTS}/*.[ch]`];
  await host(["tar", "-C", into, "-xf", join(folder, archive), ...only]);
}

async function compile(dir: string, kernelHeaders: string, uring: string): Promise<void> {
  const folder = join(dir, SELFTESTS);
  const sources = (await readdir(folder)).filter(
    (name) => name.endsWith(".c") && name !== NOT_KUBLK,
  );
  const includes = [join(uring, "usr/include"), kernelHeaders].flatMap((path) => [
    "-isystem",
    path,
  ]);
  // The archive, because the guest's shared library is older.
  const library = join(uring, "usr/lib/x86_64-linux-gnu/liburing.a");
  const output = ["-s", "-o", join(dir, "kublk")];
  await host(["cc", ...CFLAGS, ...includes, ...output, ...sources, library, "-lpthread", "-lm"], {
    cwd: folder,
  });
}
