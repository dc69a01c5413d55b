/** What an executable needs of the system, measured in the files themselves. */

import { join } from "node:path";
import { host } from "../vm/host.ts";
import { byVersion } from "../vm/versions.ts";
import type { Flavour } from "./flavours.ts";
import { liburing } from "./parts.ts";
import { unpacked } from "./roots.ts";

export interface Needs {
  /** The oldest glibc that has all; undefined when it is not glibc that is needed. */
  glibc: string | undefined;
  /** What the loader has to find. */
  libraries: string[];
}

const ROOT = join(import.meta.dir, "../..");

const readelf = (...words: string[]): Promise<string> => host(["readelf", "--wide", ...words]);

/** Of an executable, of the liburing inside, and of what `ffi/c_library.ts` looks up by name. */
export async function needsOf({ architecture }: Flavour, executable: string): Promise<Needs> {
  const dynamic = await readelf("--dynamic", executable);
  const libraries = [...dynamic.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map((match) => match[1]!);
  if (!libraries.includes("libc.so.6")) return { glibc: undefined, libraries };
  const linked = await Promise.all(
    [executable, (await liburing(architecture)).path].map(async (path) =>
      [...(await readelf("--dyn-syms", path)).matchAll(/ UND \S+@GLIBC_([\d.]+)/g)].map(
        (match) => match[1]!,
      ),
    ),
  );
  const lookedUp = await appearances(await namesLookedUp(), architecture);
  return { glibc: [...linked.flat(), ...lookedUp].toSorted(byVersion).at(-1), libraries };
}

/** The functions in the tables of `ffi/c_library.ts`. */
export async function namesLookedUp(): Promise<string[]> {
  const source = await Bun.file(join(ROOT, "ffi/c_library.ts")).text();
  return [...source.matchAll(/^ {2}(\w+): \{(?: args|$)/gm)].map((match) => match[1]!);
}

/** The version of glibc in which each function appeared. */
async function appearances(
  names: string[],
  architecture: Flavour["architecture"],
): Promise<string[]> {
  const tree = await unpacked(["libc6"], architecture);
  const [path = ""] = [...new Bun.Glob("usr/lib/*/libc.so.6").scanSync({ cwd: tree })];
  const symbols = await readelf("--dyn-syms", join(tree, path));
  return names.map((name) => {
    const versions = symbols.matchAll(new RegExp(` ${name}@@?GLIBC_([\\d.]+)`, "g"));
    const first = [...versions].map((match) => match[1]!).toSorted(byVersion)[0];
    if (first === undefined) throw new Error(`glibc has no ${name}`);
    return first;
  });
}
