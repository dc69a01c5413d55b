// Goal: every executable of a release serves disks on a machine that has what its table in the
//   README says, and nothing more.
// Method: each boots as the only program beside a first process of ours, on a root file system with
//   just the C library; for arm64, busybox and mke2fs are there as well. A processor without AVX
//   for the baseline build. What is built has to be there: `bun run build --all`.

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Boot, boot, kernelToBoot, LINE } from "../release/boot.ts";
import { arm64Root, glibcRoot, muslRoot } from "../release/roots.ts";
import type { Architecture } from "./apt.ts";
import { passingDir } from "./cache.ts";
import { host } from "./host.ts";
import type { Kernel } from "./kernel.ts";

const DIST = join(import.meta.dir, "../../dist");

interface Run extends Pick<Boot, "cpu" | "seconds"> {
  name: string;
  architecture: Architecture;
  makeRoot: (root: string, executable: string, kernel: Kernel) => Promise<void>;
}

const ON_X86 = { architecture: "amd64", seconds: 240 } as const;
const RUNS: Run[] = [
  { ...ON_X86, name: "ublk-linux-x64", cpu: "Haswell", makeRoot: glibcRoot },
  { ...ON_X86, name: "ublk-linux-x64-baseline", cpu: "Nehalem", makeRoot: glibcRoot },
  { ...ON_X86, name: "ublk-linux-x64-musl", cpu: "Nehalem", makeRoot: muslRoot },
  {
    ...{ name: "ublk-linux-arm64", architecture: "arm64", makeRoot: arm64Root },
    ...{ cpu: "cortex-a72", seconds: 420 },
  },
];
// Bun has published one file for both; what serves without AVX need not be shown to serve with it.
const sums = Bun.file(join(DIST, "SHA256SUMS"));
const [x64, baseline] = await Promise.all(RUNS.slice(0, 2).map(({ name }) => sumOf(name)));
if (x64 === baseline) RUNS.shift();

async function sumOf(name: string): Promise<string | undefined> {
  const lines = (await sums.exists()) ? (await sums.text()).split("\n") : [];
  return lines.find((line) => line.endsWith(`  ${name}`))?.slice(0, 64) ?? name;
}

for (const run of RUNS) {
  const kernel = await kernelToBoot(run.architecture);
  const promise = `${run.name} serves disks where there is nothing else [${LINE}, ${run.cpu}]`;
  if ("missing" in kernel) test.skip(`${promise}: ${kernel.missing}`, () => undefined);
  else test(promise, () => tell(run, kernel));
}

async function tell({ name, cpu, makeRoot, seconds }: Run, kernel: Kernel): Promise<void> {
  const executable = join(DIST, name);
  if (!existsSync(executable)) throw new Error(`${name} is not built: bun run build --all`);
  const folder = await passingDir();
  try {
    await makeRoot(folder, executable, kernel);
    const said = await boot({ kernel, cpu, folder, seconds });
    expect(said).not.toContain("FAILED");
    expect(said).toMatch(/^ALL WELL$/m);
  } finally {
    await host(["rm", "-rf", folder]);
  }
}
