/**
 * Builds kublk, the kernel's own test server, from Debian's source of the kernel that is measured
 * and the newest liburing, into the laboratory's cache.
 */

import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { cached, keyOf, prune } from "../vm/cache.ts";
import { host, LabError, note } from "../vm/host.ts";
import { exactly, kernelSource, newest, unpackSource, version } from "../vm/sources.ts";

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
  const source = await kernelSource(line);
  const headers = await newest(exactly("linux-libc-dev"), source.suite);
  const uring = await newest(exactly("liburing-dev"));
  const trees = [source, headers, uring].map(({ tree }) => basename(tree));
  const dir = await cached(`kublk-${keyOf(...trees, ...CFLAGS)}`, async (into) => {
    note("building kublk from Debian's kernel source");
    await unpackSource(source.tree, into, ["--wildcards", `*/${SELFTESTS}/*.[ch]`]);
    await compile(into, join(headers.tree, "usr/include"), uring.tree);
  });
  await prune("kublk-", 2);
  const versions = [await version(source.tree), await version(uring.tree)];
  return { program: join(dir, "kublk"), origin: versions.join(", ") };
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
