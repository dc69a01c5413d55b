/** Images as qemu makes them, over the cross product of its options, by seed. */

import { writeFileSync } from "node:fs";
import type { Random } from "../../sim/random.ts";
import { must, qemuIo } from "./qemu.ts";

export const SECTOR = 512;

/** What an image is made with. */
export interface Shape {
  version: 2 | 3;
  clusterSize: number;
  refcountBits: number;
  extended: boolean;
  compression: "zlib" | "zstd";
  preallocation: "off" | "metadata" | "falloc" | "full";
  /** Some clusters are compressed. */
  compresses: boolean;
  backing: "none" | "raw" | "qcow2" | "chain";
  dataFile: "none" | "plain" | "raw";
  lazy: boolean;
  size: number;
  snapshots: number;
}

export function chooseShape(random: Random): Shape {
  const version = random.chance(0.2) ? 2 : 3;
  const clusterBits = random.pick([9, 9, 10, 11, 12, 12, 13, 14, 14, 15, 16, 16, 16, 17, 18, 21]);
  const clusterSize = 2 ** clusterBits;
  const extended = version === 3 && clusterBits >= 14 && random.chance(0.5);
  const dataFile =
    version === 3 ? random.pick(["none", "none", "none", "plain", "raw"] as const) : "none";
  const backings =
    dataFile === "raw" ? (["none"] as const) : (["none", "none", "raw", "qcow2", "chain"] as const);
  const backing = random.pick(backings);
  const refcountBits = version === 2 ? 16 : random.pick([1, 2, 4, 8, 16, 16, 32, 64]);
  const sectors = 1 + random.int(Math.min(16 << 20, clusterSize * 600) / SECTOR);
  const plain = backing === "none" && random.chance(0.3);
  const preallocation = plain ? random.pick(["metadata", "falloc", "full"] as const) : "off";
  const compresses = dataFile === "none" && preallocation === "off" && random.chance(0.6);
  // Compressed clusters share one, and a snapshot doubles its count.
  const canSnapshot = dataFile === "none" && refcountBits > (compresses ? 4 : 1);
  return {
    version,
    clusterSize,
    refcountBits,
    extended,
    compression: version === 3 && random.chance(0.4) ? "zstd" : "zlib",
    preallocation,
    compresses,
    backing,
    dataFile,
    lazy: version === 3 && random.chance(0.1),
    size: sectors * SECTOR,
    snapshots: canSnapshot && random.chance(0.4) ? 1 + random.int(2) : 0,
  };
}

/** Makes the image at `path`, with others beside it where the shape asks for them. */
export function createImage(path: string, shape: Shape, random: Random): void {
  const options = [
    `compat=${shape.version === 2 ? "0.10" : "1.1"}`,
    `cluster_size=${shape.clusterSize}`,
    `preallocation=${shape.preallocation}`,
  ];
  if (shape.version === 3) {
    options.push(`refcount_bits=${shape.refcountBits}`, `compression_type=${shape.compression}`);
    if (shape.extended) options.push("extended_l2=on");
    if (shape.lazy) options.push("lazy_refcounts=on");
  }
  if (shape.dataFile !== "none") options.push(`data_file=${path}.data`);
  if (shape.dataFile === "raw") options.push("data_file_raw=on");
  if (shape.backing !== "none") {
    const format = shape.backing === "raw" ? "raw" : "qcow2";
    options.push(`backing_file=${createBacking(path, shape, random)}`, `backing_fmt=${format}`);
  }
  const size = String(shape.size);
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options.join(","), path, size]);
}

/** Answers its name, relative to the image. It may be shorter than what stands on it, or longer. */
function createBacking(path: string, shape: Shape, random: Random): string {
  const base = `${path}.base`;
  const name = base.slice(base.lastIndexOf("/") + 1);
  const scale = random.pick([0.3, 0.9, 1, 1, 1.2]);
  const size = Math.max(1, Math.floor((shape.size * scale) / SECTOR)) * SECTOR;
  if (shape.backing === "raw") {
    const odd = random.chance(0.3) ? random.int(SECTOR) : 0;
    const bytes = new Uint8Array(size - odd);
    fillPattern(bytes, random);
    writeFileSync(base, bytes);
    return name;
  }
  const inner: Shape = {
    ...chooseShape(random),
    size,
    snapshots: 0,
    backing: shape.backing === "chain" ? random.pick(["raw", "qcow2"]) : "none",
    preallocation: "off",
    dataFile: "none",
  };
  createImage(base, inner, random);
  qemuFill(base, inner, random, 6);
  return name;
}

/** Writes all over the disk, in all of qemu's ways; compressed clusters come first. */
export function qemuFill(path: string, shape: Shape, random: Random, count: number): void {
  if (shape.compresses) qemuIo(path, compressedWrites(shape, random, random.int(8)));
  qemuIo(path, qemuWrites(shape, random, count));
}

/** Each to a cluster of its own: qemu 7.2 miscounts when a compressed write has failed. */
function compressedWrites(shape: Shape, random: Random, count: number): string[] {
  const clusters = Math.floor(shape.size / shape.clusterSize);
  const chosen = new Set<number>();
  for (let left = Math.min(count, clusters); left > 0; left--) {
    chosen.add(random.int(random.chance(0.7) ? Math.min(clusters, 16) : clusters));
  }
  const { clusterSize } = shape;
  return [...chosen].map(
    (cluster) => `write -c -P ${1 + random.int(255)} ${cluster * clusterSize} ${clusterSize}`,
  );
}

export function qemuWrites(shape: Shape, random: Random, count: number): string[] {
  const commands: string[] = [];
  for (let left = count; left > 0; left--) {
    const { offset, length } = chooseRange(random, shape);
    const kind = random.int(10);
    if (kind < 7) commands.push(`write -P ${1 + random.int(255)} ${offset} ${length}`);
    else if (kind === 9) commands.push(`discard ${offset} ${length}`);
    else commands.push(`write -z ${random.chance(0.5) ? "-u " : ""}${offset} ${length}`);
  }
  return commands;
}

export interface Range {
  offset: number;
  length: number;
}

/** Small and large, many of them near to each other. */
export function chooseRange(random: Random, shape: { size: number; clusterSize: number }): Range {
  const { size, clusterSize } = shape;
  const sectors = size / SECTOR;
  const near = random.chance(0.6) ? Math.min(sectors, (8 * clusterSize) / SECTOR) : sectors;
  const offset = random.int(near) * SECTOR;
  const most = random.pick([SECTOR, 4096, clusterSize, 3 * clusterSize, 300 * SECTOR]);
  const length = (1 + random.int(Math.max(1, most / SECTOR))) * SECTOR;
  return { offset, length: Math.min(length, size - offset) };
}

/** Bytes that say where they belong, in runs that compress. */
function fillPattern(bytes: Uint8Array, random: Random): void {
  for (let at = 0; at < bytes.length; at += SECTOR) {
    const end = Math.min(at + SECTOR, bytes.length);
    if (!random.chance(0.2)) bytes.fill(random.int(256), at, end);
  }
}
