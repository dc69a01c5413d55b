/** What `ublk check` and `ublk info` ask of an image that nobody serves. */

import { statSync } from "node:fs";
import { openImageFile } from "../../src/target/backing_file.ts";
import { DescriptorFile, SysError } from "../../src/target/file_io.ts";
import type { CheckReport, CheckWish, ImageTools, InfoReport } from "../../src/target/target.ts";
import { type Bitmap, BITMAP_AUTO, BITMAP_IN_USE, readBitmaps } from "./bitmaps.ts";
import { checkImage } from "./check.ts";
import type { Findings } from "./findings.ts";
import { type ChainImage, diskSize, openPartOfChain, placeOf } from "./chain.ts";
import * as q from "./format.ts";
import { type Header, headerToCheck, isQcow2, isRawData, readStart } from "./header.ts";
import { repairImage } from "./repair.ts";
import { lookAtSnapshots } from "./snapshots.ts";

/** As `qemu-img check` ends. */
const CLEAN = 0;
const CORRUPT = 2;
const LEAKS = 3;
const UNSUPPORTED = 63;

export const qcow2Tools: ImageTools = { check, info };

function check(path: string, wish: CheckWish): CheckReport {
  const opened = openImageFile(path, wish.repair === undefined, false);
  try {
    const image = new DescriptorFile(opened.fd, path);
    if (!isQcow2(readStart(image))) return unsupported(path);
    const header = headerToCheck(image);
    const before = checkImage(image, header, wish.progress);
    const wrong = before.corruptions > 0 || before.leaks > 0 || isMarked(header);
    if (wish.repair === undefined || !wrong) return reportOf(path, before, header);
    const after = repairImage(image, header, wish.repair, wish.progress);
    return reportOf(path, after, headerToCheck(image), before);
  } finally {
    opened.close();
  }
}

function unsupported(path: string): CheckReport {
  const reason = "its format has nothing that could be checked";
  const refusal = new SysError({ op: "check", errno: 0, subject: path, reason });
  return { status: UNSUPPORTED, lines: [], json: {}, refusal };
}

function isMarked(header: Header): boolean {
  return (header.incompatible & (q.INCOMPATIBLE_DIRTY | q.INCOMPATIBLE_CORRUPT)) !== 0;
}

function reportOf(path: string, found: Findings, header: Header, before?: Findings): CheckReport {
  const lines = [...found.messages];
  if (before !== undefined) {
    const errors = Math.max(0, before.corruptions - found.corruptions);
    const leaks = Math.max(0, before.leaks - found.leaks);
    lines.push(`repaired: ${count(errors, "error")}, ${count(leaks, "leak")}`);
  }
  const { corruptions, leaks, allocated, compressed, total, endOffset } = found;
  const danger = "data may be corrupted, or a write may corrupt it";
  if (corruptions > 0) lines.push(`${count(corruptions, "error")}: ${danger}`);
  if (leaks > 0) lines.push(`${count(leaks, "leaked cluster")}: space is lost, data is not`);
  if (corruptions === 0 && leaks === 0) lines.push("no errors");
  lines.push(...marksOf(header));
  const part = total === 0 ? "0.00" : ((100 * allocated) / total).toFixed(2);
  lines.push(`${allocated}/${total} = ${part}% allocated, ${compressed} of them compressed`);
  lines.push(`image end offset: ${endOffset}`);
  const status = corruptions > 0 ? CORRUPT : leaks > 0 ? LEAKS : CLEAN;
  const json = {
    path,
    format: "qcow2",
    corruptions,
    leaks,
    ...(before === undefined
      ? {}
      : { corruptions_before: before.corruptions, leaks_before: before.leaks }),
    dirty: (header.incompatible & q.INCOMPATIBLE_DIRTY) !== 0,
    corrupt: (header.incompatible & q.INCOMPATIBLE_CORRUPT) !== 0,
    allocated_clusters: allocated,
    compressed_clusters: compressed,
    total_clusters: total,
    image_end_offset: endOffset,
    messages: found.messages,
  };
  return { status, lines, json };
}

const count = (many: number, what: string): string => `${many} ${what}${many === 1 ? "" : "s"}`;

/** What may stand there although the image is in order, and what follows from it. */
function marksOf({ incompatible }: Header): string[] {
  const lines: string[] = [];
  if ((incompatible & q.INCOMPATIBLE_CORRUPT) !== 0) {
    lines.push(
      "marked as corrupt: served with --read-only alone, until a --repair takes the mark away",
    );
  }
  if ((incompatible & q.INCOMPATIBLE_DIRTY) !== 0) {
    lines.push("marked as dirty: its refcounts are made anew when it is next served for writing");
  }
  return lines;
}

function info(path: string): InfoReport {
  const closers: (() => void)[] = [];
  try {
    const chain = openPartOfChain(path, (name) => {
      const opened = openImageFile(name, true, false);
      closers.push(opened.close);
      return new DescriptorFile(opened.fd, name);
    });
    const images: Record<string, unknown>[] = [];
    for (let image: ChainImage | undefined = chain; image !== undefined; image = image.backing) {
      images.push(factsOf(image));
    }
    return { images };
  } finally {
    for (const close of closers) close();
  }
}

function factsOf(image: ChainImage): Record<string, unknown> {
  const { path, header } = image;
  const actual = statSync(path).blocks * q.SECTOR;
  const file = { path, file_size: image.file.size(), actual_size: actual };
  if (header === undefined) return { ...file, format: "raw", virtual_size: diskSize(image) };
  return {
    ...file,
    format: "qcow2",
    virtual_size: header.size,
    version: header.version,
    compat: header.version === 2 ? "0.10" : "1.1",
    cluster_size: header.clusterSize,
    refcount_bits: 2 ** header.refcountOrder,
    compression_type: ["zlib", "zstd"][header.compressionType],
    extended_l2: header.extendedL2,
    lazy_refcounts: (header.compatible & q.COMPATIBLE_LAZY_REFCOUNTS) !== 0,
    dirty: (header.incompatible & q.INCOMPATIBLE_DIRTY) !== 0,
    corrupt: (header.incompatible & q.INCOMPATIBLE_CORRUPT) !== 0,
    encryption: ENCRYPTION[header.cryptMethod],
    ...(header.externalData ? dataFileFacts(path, header) : {}),
    ...(header.backingName === undefined ? {} : backingFacts(image, header)),
    bitmaps: readBitmaps(image.file, header).bitmaps.map(bitmapFacts),
    snapshots: lookAtSnapshots(image.file, header).snapshots.map((snapshot) => ({
      id: snapshot.id,
      name: snapshot.name,
      vm_state_size: snapshot.stateSize,
      vm_clock_nsec: snapshot.clockNs,
      date: new Date(snapshot.seconds * 1000).toISOString(),
      disk_size: snapshot.diskSize ?? header.size,
    })),
  };
}

/** As `crypt_method` numbers them. */
const ENCRYPTION = ["none", "aes", "luks"];

/** Where it is, whether or not there is something; a name that is no plain one as it stands. */
function dataFileFacts(image: string, header: Header): Record<string, unknown> {
  const name = header.dataFileName;
  const place = name === undefined ? null : (placeOf(image, name) ?? name);
  return { data_file: place, data_file_raw: isRawData(header) };
}

/** Where the backing file is, what the image itself says of it, and why it cannot be shown. */
function backingFacts(image: ChainImage, header: Header): Record<string, unknown> {
  return {
    backing_file: image.backingPath,
    backing_name: header.backingName,
    backing_format: header.backingFormat,
    ...(image.backingError === undefined ? {} : { backing_error: image.backingError.message }),
  };
}

function bitmapFacts({ name, granularity, flags }: Bitmap): Record<string, unknown> {
  const words = [
    ...((flags & BITMAP_IN_USE) === 0 ? [] : ["in-use"]),
    ...((flags & BITMAP_AUTO) === 0 ? [] : ["auto"]),
  ];
  return { name, granularity, flags: words };
}
