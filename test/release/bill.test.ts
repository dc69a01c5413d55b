/** The bill of materials lists what is bundled, and names it so that others find it. */

import { expect, test } from "bun:test";
import { billOfMaterials, bundled } from "./bill.ts";
import { FLAVOURS } from "./flavours.ts";

type Entry = [string, string, { dependencies?: Record<string, string> }, string];
const entry = (id: string, ...needs: string[]): Entry => [
  id,
  "",
  { dependencies: Object.fromEntries(needs.map((name) => [name, "1"])) },
  "sha512-AAAA",
];

test("what a dependency depends on is bundled too; what only development needs is not", () => {
  const packages = {
    one: entry("one@1.0.0", "two"),
    two: entry("two@1.0.0", "three", "one"),
    three: entry("three@1.0.0"),
    lint: entry("lint@1.0.0"),
  };
  expect(bundled({ dependencies: { one: "1" } }, { packages })).toEqual(["one", "three", "two"]);
});

const built = FLAVOURS.map((flavour) => ({
  flavour,
  library: { version: "2.9-1", sha256: "ab".repeat(32), path: "" },
  bytes: new TextEncoder().encode(flavour.name),
}));

test("packages are named as their registries name them, with the checksums of the lock files", async () => {
  const bill = await billOfMaterials(built);
  expect(bill).toContain('"pkg:npm/citty@');
  expect(bill).toContain('"pkg:npm/%40oven/bun-linux-aarch64@');
  expect(bill).toContain('"pkg:deb/debian/liburing2@2.9-1?arch=arm64"');
  const lock = await Bun.file(`${import.meta.dir}/runtimes/bun.lock`).text();
  for (const [, base64 = ""] of lock.matchAll(/"sha512-([^"]+)"/g)) {
    expect(bill).toContain(Buffer.from(base64, "base64").toString("hex"));
  }
});

test("the same files give the same text; other files another name for it", async () => {
  const nameOf = (text: string) => /urn:uuid:[\w-]+/.exec(text)![0];
  const bill = await billOfMaterials(built);
  expect(await billOfMaterials(built)).toBe(bill);
  const [first, ...rest] = built;
  const other = await billOfMaterials([{ ...first!, bytes: new Uint8Array(1) }, ...rest]);
  expect(nameOf(other)).not.toBe(nameOf(bill));
});
