// Goal: a release is what the README says of it: its sizes, needs, checksums and bill are right,
//   and whoever builds the same commit gets the same bytes.
// Method: the files that `bun run build --all` left in dist/ are measured and checked with the
//   system's own tools; then a copy of the tree in another folder builds all of it again.

import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import { isAsked } from "../release/boot.ts";
import { FLAVOURS } from "../release/flavours.ts";
import { namesLookedUp, needsOf } from "../release/needs.ts";
import { runtimes } from "../release/parts.ts";
import { passingDir } from "./cache.ts";
import { host } from "./host.ts";

const ROOT = join(import.meta.dir, "../..");
const DIST = join(ROOT, "dist");
/** No kernel is asked anything here: once is enough. */
const testOnce = test.skipIf(!isAsked);

const GROWTH_MAX = 3 * 2 ** 20;
const START_MAX_MS = 30;
const START_PATIENCE_MS = 30_000;

const sums = async (dir: string): Promise<string> => Bun.file(join(dir, "SHA256SUMS")).text();

testOnce("every file has the checksum that is listed", async () => {
  const said = await host(["sha256sum", "--strict", "--check", "SHA256SUMS"], { cwd: DIST });
  expect(said.match(/: OK$/gm)?.length).toBe(2 * FLAVOURS.length + 1);
});

testOnce.each(FLAVOURS)("$name is in its .zst, byte by byte", async ({ name }) => {
  const packed = await Bun.file(join(DIST, `${name}.zst`)).bytes();
  const inside = await Bun.zstdDecompress(packed);
  expect(inside.equals(await Bun.file(join(DIST, name)).bytes())).toBe(true);
});

testOnce.each(FLAVOURS)("$name is at most 3 MiB larger than its Bun", async (flavour) => {
  const bun = Bun.file(join(await runtimes(), flavour.runtime, "bin/bun"));
  const growth = Bun.file(join(DIST, flavour.name)).size - bun.size;
  expect(growth).toBeGreaterThan(0);
  expect(growth).toBeLessThanOrEqual(GROWTH_MAX);
});

// Something else does run, a guest for one: the processor is ours now and then.
testOnce("ublk --version takes less than 30 ms, when nothing else runs", () => {
  let best = Infinity;
  const deadline = performance.now() + START_PATIENCE_MS;
  while (best >= START_MAX_MS && performance.now() < deadline) {
    const begin = performance.now();
    const child = Bun.spawnSync([join(DIST, "ublk-linux-x64"), "--version"]);
    best = Math.min(best, performance.now() - begin);
    expect(child.stdout.toString()).toStartWith("ublk ");
  }
  console.log(`ublk --version takes ${best.toFixed(1)} ms`);
  expect(best).toBeLessThan(START_MAX_MS);
});

testOnce.each(FLAVOURS)("what the README says $name needs is what it needs", async (flavour) => {
  const readme = await Bun.file(join(ROOT, "README.md")).text();
  const row = readme.split("\n").find((line) => line.startsWith(`| \`${flavour.name}\` `));
  const { glibc, libraries } = await needsOf(flavour, join(DIST, flavour.name));
  expect(row).toContain(glibc === undefined ? "musl" : `glibc ${glibc}`);
  const named = [...row!.matchAll(/`(l[^`]+\.so[^`]*)`/g)].map((match) => match[1]!);
  expect(named.toSorted()).toEqual(libraries.toSorted());
});

test("the functions that are looked up by name are found in their tables", async () => {
  const names = await namesLookedUp();
  expect(names.length).toBeGreaterThan(20);
  expect(names).toContain("dlopen");
  expect(names).toContain("sched_setaffinity");
});

interface Bill {
  creationInfo: { created: string };
  packages: { SPDXID: string; checksums?: { checksumValue: string }[] }[];
  files: { SPDXID: string; fileName: string; checksums: { checksumValue: string }[] }[];
  relationships: { spdxElementId: string; relatedSpdxElement: string }[];
}

testOnce(
  "the bill of materials speaks of these very files, and of all that is in them",
  async () => {
    const bill = (await Bun.file(join(DIST, "ublk.spdx.json")).json()) as Bill;
    const listed = await sums(DIST);
    for (const { fileName, checksums } of bill.files) {
      expect(listed).toContain(`${checksums[1]!.checksumValue}  ${fileName.slice(2)}\n`);
    }
    expect(bill.files.map(({ SPDXID }) => SPDXID.slice(8))).toEqual(FLAVOURS.map((f) => f.name));
    const ids = [...bill.packages, ...bill.files].map(({ SPDXID }) => SPDXID);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { spdxElementId, relatedSpdxElement } of bill.relationships) {
      expect([...ids, "SPDXRef-DOCUMENT"]).toContain(spdxElementId);
      expect(ids).toContain(relatedSpdxElement);
    }
    for (const { SPDXID } of bill.files) {
      const inside = bill.relationships.filter(({ spdxElementId }) => spdxElementId === SPDXID);
      const names = inside.map((one) => one.relatedSpdxElement);
      expect(names).toContain("SPDXRef-citty");
      expect(names.some((name) => name.startsWith("SPDXRef-liburing2-"))).toBe(true);
      expect(names.some((name) => name.startsWith("SPDXRef--oven-bun-linux-"))).toBe(true);
    }
    const bare = bill.packages.filter(({ checksums }) => checksums === undefined);
    expect(bare.map(({ SPDXID }) => SPDXID)).toEqual(["SPDXRef-ublk"]);
  },
);

const copies: string[] = [];
afterAll(() => host(["rm", "-rf", "--", ...copies]));

testOnce("the same sources in another folder give the same bytes", async () => {
  const dir = await passingDir();
  copies.push(dir);
  const tree = join(dir, "elsewhere/ublk");
  await host(["mkdir", "-p", tree]);
  // With the history: the bill of materials bears the commit's time.
  const entries = (await host(["ls", "-A"], { cwd: ROOT })).trim().split("\n");
  const wanted = entries.filter((name) => name !== "dist");
  await host(["cp", "-a", "--reflink=auto", "-t", tree, ...wanted], { cwd: ROOT });
  await host([process.execPath, "build.ts", "--all"], { cwd: tree });
  expect(await sums(join(tree, "dist")), "or is dist/ older than the sources?").toBe(
    await sums(DIST),
  );
});
