/** What executables are made of: Bun for each machine, liburing for each processor. */

import { cp } from "node:fs/promises";
import { join } from "node:path";
import { type Architecture, packageRecord, unpackPackages } from "../vm/apt.ts";
import { cached, keyOf, prune } from "../vm/cache.ts";
import { host, LabError, note } from "../vm/host.ts";

const RUNTIMES = join(import.meta.dir, "runtimes");

/** Of Debian stable, as this commit was made with them: their SHA-256 by architecture. */
const LIBURING: Record<Architecture, string> = {
  amd64: "4b589c00c7a51172aace2cb2fb3d3ff32daf86c644023126dcfcaa840cc941ea",
  arm64: "523dfbe829acf3aeae6df81528426a75995944923fd6bd35f6ccd0332034c713",
};

/** The folder with every Bun; bun.lock there says which, and with which checksums. */
export async function runtimes(): Promise<string> {
  const lock = await Bun.file(join(RUNTIMES, "bun.lock")).text();
  const path = await cached(`runtimes-${keyOf(lock)}`, async (into) => {
    note("downloading Bun for each kind of machine");
    for (const name of ["package.json", "bun.lock"])
      await cp(join(RUNTIMES, name), join(into, name));
    const install = ["install", "--frozen-lockfile", "--ignore-scripts", "--os=linux", "--cpu=*"];
    await host([process.execPath, ...install], { cwd: into });
  });
  await prune("runtimes-", 1);
  return join(path, "node_modules");
}

/** A package of Debian with liburing. */
export interface Library {
  version: string;
  /** Of the package, by Debian's index. */
  sha256: string;
  /** The library itself. */
  path: string;
}

export async function liburing(architecture: Architecture): Promise<Library> {
  const record = await packageRecord("trixie", "liburing2", architecture);
  const [version = "", sha256 = ""] = [record.get("Version"), record.get("SHA256")];
  if (sha256 !== LIBURING[architecture]) {
    note(
      `Debian's liburing2 is ${version} now: this build differs from earlier ones of the commit`,
    );
  }
  const dir = await cached(`liburing-${architecture}-${keyOf(sha256)}`, (into) =>
    unpackPackages("trixie", ["liburing2"], into, architecture),
  );
  const [found] = [...new Bun.Glob("usr/lib/*/liburing.so.2").scanSync({ cwd: dir })];
  if (found === undefined) throw new LabError("Debian's liburing2 holds no liburing.so.2");
  return { version, sha256, path: join(dir, found) };
}
