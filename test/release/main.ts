/**
 * `bun run build --all`: an executable for every common machine, from packages of the npm registry
 * and of Debian alone, with checksums, compressed copies and a bill of materials. The same commit
 * gives the same bytes.
 */

import { chmod, copyFile, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { passingDir } from "../vm/cache.ts";
import { host, toTerminal } from "../vm/host.ts";
import { billOfMaterials, type Built } from "./bill.ts";
import { BUILDER, FLAVOURS, type Flavour } from "./flavours.ts";
import { liburing, type Library, runtimes } from "./parts.ts";

const ROOT = join(import.meta.dir, "../..");
/** Higher ones take minutes and save little. */
const ZSTD_LEVEL = 12;

async function executable(
  flavour: Flavour,
  modules: string,
  library: Library,
  staging: string,
): Promise<string> {
  // All have one name while they are made, because Bun writes that into the file.
  const out = join(staging, flavour.name, "ublk");
  await host([
    ...[join(modules, BUILDER, "bin/bun"), join(ROOT, "build.ts"), "--out", out],
    ...["--runtime", join(modules, flavour.runtime, "bin/bun"), "--library", library.path],
  ]);
  return out;
}

async function release(into: string, staging: string): Promise<void> {
  const modules = await runtimes();
  const libraries = { amd64: await liburing("amd64"), arm64: await liburing("arm64") };
  await mkdir(into, { recursive: true });
  const files: Built[] = [];
  for (const flavour of FLAVOURS) {
    const library = libraries[flavour.architecture];
    const out = await executable(flavour, modules, library, staging);
    const bytes = await Bun.file(out).bytes();
    await copyFile(out, join(into, flavour.name));
    await chmod(join(into, flavour.name), 0o755);
    files.push({ flavour, library, bytes });
    await Bun.write(
      join(into, `${flavour.name}.zst`),
      await Bun.zstdCompress(bytes, { level: ZSTD_LEVEL }),
    );
  }
  await Bun.write(join(into, "ublk.spdx.json"), await billOfMaterials(files));
  await writeSums(into);
}

/** What `sha256sum -c` reads. */
async function writeSums(into: string): Promise<void> {
  const names = FLAVOURS.flatMap(({ name }) => [name, `${name}.zst`]);
  const lines: string[] = [];
  for (const name of [...names, "ublk.spdx.json"].toSorted()) {
    const bytes = await Bun.file(join(into, name)).bytes();
    lines.push(`${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}  ${name}\n`);
    console.log(`${name}: ${(bytes.length / 2 ** 20).toFixed(1)} MiB`);
  }
  await Bun.write(join(into, "SHA256SUMS"), lines.join(""));
}

await toTerminal(async () => {
  const staging = await passingDir();
  try {
    await release(process.argv[2] ?? join(ROOT, "dist"), staging);
    return 0;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
});
