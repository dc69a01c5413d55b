/** The bill of materials of a release, in SPDX 2.3: what is in each executable, and where from. */

import { join } from "node:path";
import type { Flavour } from "./flavours.ts";
import type { Library } from "./parts.ts";

const ROOT = join(import.meta.dir, "../..");
/** For names derived from content (RFC 9562, version 5); the number means nothing. */
const NAMESPACE = "4f9c7cb4-0f7b-4c8e-9a55-6b2f5f6d7e11";

export interface Built {
  flavour: Flavour;
  library: Library;
  bytes: Uint8Array;
}

interface Checksum {
  algorithm: "SHA1" | "SHA256" | "SHA512";
  checksumValue: string;
}

interface Package {
  SPDXID: string;
  name: string;
  versionInfo: string;
  downloadLocation: "NOASSERTION";
  filesAnalyzed: false;
  licenseConcluded: "NOASSERTION";
  licenseDeclared: string;
  copyrightText: "NOASSERTION";
  checksums?: Checksum[];
  externalRefs?: object[];
}

/** A lock file of Bun, as far as it is of interest here. */
interface Lock {
  /** By name: "name@version", address, what it depends on, integrity. */
  packages: Record<string, [string, string, { dependencies?: Record<string, string> }, string]>;
}

interface Manifest {
  version: string;
  license: string;
  dependencies: Record<string, string>;
}

const read = (path: string): Promise<string> => Bun.file(join(ROOT, path)).text();

const identifier = (name: string): string => `SPDXRef-${name.replaceAll(/[^A-Za-z0-9.-]+/g, "-")}`;

function part(name: string, version: string, license: string, purl?: string): Package {
  const reference = {
    referenceCategory: "PACKAGE-MANAGER",
    referenceType: "purl",
    referenceLocator: purl,
  };
  return {
    SPDXID: identifier(name),
    name,
    versionInfo: version,
    downloadLocation: "NOASSERTION",
    filesAnalyzed: false,
    licenseConcluded: "NOASSERTION",
    licenseDeclared: license,
    copyrightText: "NOASSERTION",
    ...(purl === undefined ? {} : { externalRefs: [reference] }),
  };
}

/** A package of the npm registry, with the checksum that the lock file demands. */
function npmPart(name: string, lock: Lock, license: string): Package {
  const [id, , , integrity] = lock.packages[name]!;
  const version = id.slice(name.length + 1);
  const purl = `pkg:npm/${name.replace("@", "%40")}@${version}`;
  const checksumValue = Buffer.from(integrity.replace("sha512-", ""), "base64").toString("hex");
  const checksums: Checksum[] = [{ algorithm: "SHA512", checksumValue }];
  return { ...part(name, version, license, purl), checksums };
}

function debianPart({ version, sha256 }: Library, architecture: string): Package {
  const purl = `pkg:deb/debian/liburing2@${version}?arch=${architecture}`;
  const license = "LGPL-2.1-or-later OR MIT";
  return {
    ...part("liburing2", version, license, purl),
    SPDXID: identifier(`liburing2-${architecture}`),
    checksums: [{ algorithm: "SHA256", checksumValue: sha256 }],
  };
}

/** What is bundled: the dependencies, and theirs; nothing of what only development needs. */
export function bundled(manifest: Pick<Manifest, "dependencies">, lock: Lock): string[] {
  const found = new Set(Object.keys(manifest.dependencies));
  for (const name of found) {
    for (const next of Object.keys(lock.packages[name]![2].dependencies ?? {})) found.add(next);
  }
  return [...found].toSorted();
}

function fileOf({ flavour, bytes }: Built): object {
  const digest = (algorithm: "sha1" | "sha256"): Checksum => ({
    algorithm: algorithm === "sha1" ? "SHA1" : "SHA256",
    checksumValue: new Bun.CryptoHasher(algorithm).update(bytes).digest("hex"),
  });
  return {
    SPDXID: identifier(flavour.name),
    fileName: `./${flavour.name}`,
    fileTypes: ["BINARY"],
    checksums: [digest("sha1"), digest("sha256")],
    licenseConcluded: "NOASSERTION",
    copyrightText: "NOASSERTION",
  };
}

/** Of the commit, so that it is the same for everybody who builds it. */
async function created(): Promise<string> {
  const epoch = process.env["SOURCE_DATE_EPOCH"] ?? (await commitTime());
  return new Date(Number(epoch) * 1000).toISOString().replace(".000Z", "Z");
}

async function commitTime(): Promise<string> {
  const git = await Bun.$`git log -1 --format=%ct`.cwd(ROOT).nothrow().quiet();
  return git.exitCode === 0 ? git.text().trim() : "0"; // not a clone: no time is known
}

async function licenseOf(name: string): Promise<string> {
  const manifest = JSON.parse(await read(`node_modules/${name}/package.json`)) as Manifest;
  return manifest.license;
}

interface Parts {
  ours: Package;
  libraries: Package[];
  /** In the order of the executables. */
  runtimes: Package[];
  liburing: Map<string, Package>;
}

async function partsOf(files: readonly Built[]): Promise<Parts> {
  const manifest = JSON.parse(await read("package.json")) as Manifest;
  const lock = Bun.JSONC.parse(await read("bun.lock")) as Lock;
  const runtimeLock = Bun.JSONC.parse(await read("test/release/runtimes/bun.lock")) as Lock;
  const names = bundled(manifest, lock);
  return {
    ours: part("ublk", manifest.version, manifest.license),
    libraries: await Promise.all(
      names.map(async (name) => npmPart(name, lock, await licenseOf(name))),
    ),
    runtimes: files.map(({ flavour }) => npmPart(flavour.runtime, runtimeLock, "MIT")),
    liburing: new Map(
      files.map(({ flavour: { architecture }, library }) => [
        architecture,
        debianPart(library, architecture),
      ]),
    ),
  };
}

function relationships(files: readonly Built[], parts: Parts): object[] {
  const relate = (from: string, relationshipType: string, to: string): object => ({
    spdxElementId: from,
    relationshipType,
    relatedSpdxElement: to,
  });
  const all = [relate("SPDXRef-DOCUMENT", "DESCRIBES", parts.ours.SPDXID)];
  for (const [index, { flavour }] of files.entries()) {
    const file = identifier(flavour.name);
    const inside = [parts.runtimes[index]!, parts.liburing.get(flavour.architecture)!];
    all.push(relate(file, "GENERATED_FROM", parts.ours.SPDXID));
    for (const one of [...inside, ...parts.libraries]) {
      all.push(relate(file, "CONTAINS", one.SPDXID));
    }
  }
  return all;
}

/** The document, as text. */
export async function billOfMaterials(files: readonly Built[]): Promise<string> {
  const parts = await partsOf(files);
  const { ours, libraries, runtimes, liburing } = parts;
  const content = {
    packages: [ours, ...libraries, ...runtimes, ...liburing.values()],
    files: files.map(fileOf),
    relationships: relationships(files, parts),
  };
  const document = {
    spdxVersion: "SPDX-2.3",
    dataLicense: "CC0-1.0",
    SPDXID: "SPDXRef-DOCUMENT",
    name: `ublk-${ours.versionInfo}`,
    documentNamespace: `urn:uuid:${Bun.randomUUIDv5(JSON.stringify(content), NAMESPACE)}`,
    creationInfo: { created: await created(), creators: [`Tool: ublk-${ours.versionInfo}`] },
    ...content,
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}
