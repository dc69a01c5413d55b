/** The header of an image: what it says, and in one line why it is refused. */

import { type SyncFile, SysError } from "../../src/target/file_io.ts";
import { type Extensions, readExtensions } from "./extensions.ts";
import * as q from "./format.ts";
import { getOffset } from "./mapping.ts";
import { hasControls, textOf } from "./names.ts";

export interface Header extends Extensions {
  version: number;
  clusterBits: number;
  clusterSize: number;
  /** Bytes of the virtual disk. */
  size: number;
  cryptMethod: number;
  l1Size: number;
  l1Offset: number;
  refcountTableOffset: number;
  refcountTableClusters: number;
  refcountOrder: number;
  snapshotCount: number;
  snapshotsOffset: number;
  headerLength: number;
  incompatible: number;
  compatible: number;
  /** As two words: unknown bits have to be cleared, wherever they are. */
  autoclearHigh: number;
  autoclearLow: number;
  compressionType: number;
  extendedL2: boolean;
  externalData: boolean;
  backingName: string | undefined;
}

/** An image that is not what it has to be. */
export class ImageError extends SysError {
  constructor(path: string, reason: string, hint?: string) {
    const facts = { op: "qcow2", errno: 0, subject: path, reason };
    super(hint === undefined ? facts : { ...facts, hint });
  }
}

/** The first cluster, however large it is, or what there is of it. */
export function readStart(file: SyncFile): Uint8Array {
  const bytes = new Uint8Array(Math.min(2 ** q.CLUSTER_BITS_MAX, file.size()));
  return bytes.subarray(0, file.read(bytes, 0));
}

/** For a check or a look: of an image that has lost its refcount table, too. Throws ImageError. */
export function headerToCheck(image: SyncFile): Header {
  return readHeader(readStart(image), image.path, image.size(), true);
}

/**
 * `bytes`: from `readStart`. `fileSize`: of the whole image file. `toCheck`: a refcount table that
 * is not in the file is one of 0 clusters, and no error.
 */
export function readHeader(
  bytes: Uint8Array,
  path: string,
  fileSize: number,
  toCheck = false,
): Header {
  const refuse = (reason: string, hint?: string): never => {
    throw new ImageError(path, reason, hint);
  };
  if (!isQcow2(bytes)) refuse("has no qcow2 magic");
  if (bytes.length < q.V2_HEADER_LENGTH) refuse("ends inside the header");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) refuse(`version is ${version}; 2 and 3 are known`);
  const clusterBits = view.getUint32(20);
  if (clusterBits < q.CLUSTER_BITS_MIN || clusterBits > q.CLUSTER_BITS_MAX) {
    refuse(`cluster_bits is ${clusterBits}; it has to be from 9 to 21`);
  }
  const features = version === 2 ? NO_FEATURES : readFeatures(view, clusterBits, refuse);
  const offsetAt = (at: number, name: string): number => readOffset(view, at, name, refuse);
  const backingOffset = offsetAt(8, "backing_file_offset");
  const end = backingOffset === 0 ? 2 ** clusterBits : Math.min(backingOffset, 2 ** clusterBits);
  const extensions = readExtensions(view, features.headerLength, end, refuse);
  const header: Header = {
    version,
    clusterBits,
    clusterSize: 2 ** clusterBits,
    size: readSize(view, refuse),
    cryptMethod: view.getUint32(q.CRYPT_METHOD_AT),
    l1Size: view.getUint32(q.L1_SIZE_AT),
    l1Offset: offsetAt(q.L1_TABLE_OFFSET_AT, "l1_table_offset"),
    refcountTableOffset: offsetAt(q.REFCOUNT_TABLE_OFFSET_AT, "refcount_table_offset"),
    refcountTableClusters: view.getUint32(56),
    snapshotCount: view.getUint32(60),
    snapshotsOffset: offsetAt(64, "snapshots_offset"),
    ...features,
    ...extensions,
    backingName: undefined,
  };
  refuseUnknown(view, header, refuse);
  header.backingName = readBackingName(bytes, backingOffset, header, refuse);
  checkLimits(header, fileSize, refuse);
  checkRefcountTable(header, fileSize, toCheck, refuse);
  checkCombinations(header, refuse);
  return header;
}

export type Refuse = (reason: string, hint?: string) => never;

export function isQcow2(bytes: Uint8Array): boolean {
  if (bytes.length < 4) return false;
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0) === q.MAGIC;
}

const NO_FEATURES = {
  headerLength: q.V2_HEADER_LENGTH,
  incompatible: 0,
  compatible: 0,
  autoclearHigh: 0,
  autoclearLow: 0,
  refcountOrder: 4,
  compressionType: 0,
  extendedL2: false,
  externalData: false,
};

function readFeatures(view: DataView, clusterBits: number, refuse: Refuse): typeof NO_FEATURES {
  if (view.byteLength < q.V3_HEADER_LENGTH) refuse("ends inside the header");
  const headerLength = view.getUint32(100);
  if (headerLength < q.V3_HEADER_LENGTH || headerLength % 8 !== 0) {
    refuse(`header_length is ${headerLength}; it has to be a multiple of 8, 104 at least`);
  }
  if (headerLength > Math.min(2 ** clusterBits, view.byteLength)) {
    refuse(`header_length is ${headerLength}, beyond the first cluster or the file`);
  }
  const incompatible = view.getUint32(q.INCOMPATIBLE_FEATURES_AT + 4);
  return {
    headerLength,
    incompatible,
    compatible: view.getUint32(84),
    autoclearHigh: view.getUint32(q.AUTOCLEAR_FEATURES_AT),
    autoclearLow: view.getUint32(q.AUTOCLEAR_FEATURES_AT + 4),
    refcountOrder: view.getUint32(96),
    compressionType: headerLength > q.V3_HEADER_LENGTH ? view.getUint8(104) : 0,
    extendedL2: (incompatible & q.INCOMPATIBLE_EXTENDED_L2) !== 0,
    externalData: (incompatible & q.INCOMPATIBLE_DATA_FILE) !== 0,
  };
}

function readOffset(view: DataView, at: number, name: string, refuse: Refuse): number {
  const value = getOffset(view, at);
  if (value > q.OFFSET_MAX) {
    refuse(`${name} is 0x${view.getBigUint64(at).toString(16)}, larger than any file`);
  }
  return value;
}

/** A disk may be larger than the file that it is in, but no device is. */
function readSize(view: DataView, refuse: Refuse): number {
  const size = getOffset(view, q.SIZE_AT);
  if (size > q.OFFSET_MAX) {
    const said = view.getBigUint64(q.SIZE_AT).toString(16);
    refuse(`size is 0x${said}: a disk of 2^52 bytes (4 PiB) is the largest that is served`);
  }
  return size;
}

/** Bits that change the meaning of the image and that we do not know, by the image's names. */
function refuseUnknown(view: DataView, header: Header, refuse: Refuse): void {
  if (header.version === 2) return;
  const high = view.getUint32(q.INCOMPATIBLE_FEATURES_AT);
  const unknown: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    const word = bit < 32 ? header.incompatible : high;
    const known = bit < 32 && ((q.INCOMPATIBLE_KNOWN >>> bit) & 1) !== 0;
    if (((word >>> (bit % 32)) & 1) === 0 || known) continue;
    const name = header.featureNames.find((feature) => feature.kind === 0 && feature.bit === bit);
    unknown.push(name === undefined ? `bit ${bit}` : `bit ${bit} (${name.name})`);
  }
  if (unknown.length === 0) return;
  refuse(`incompatible_features has what is not known here: ${unknown.join(", ")}`);
}

function readBackingName(
  bytes: Uint8Array,
  offset: number,
  header: Header,
  refuse: Refuse,
): string | undefined {
  if (offset === 0) return undefined;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(16);
  if (length > q.BACKING_NAME_MAX) {
    refuse(`backing_file_size is ${length}; ${q.BACKING_NAME_MAX} is the most`);
  }
  if (length === 0) return undefined;
  if (offset < header.headerLength || offset + length > header.clusterSize) {
    refuse(`backing_file_offset is ${offset}: the name does not lie inside the first cluster`);
  }
  if (offset + length > bytes.length) refuse("ends inside the name of the backing file");
  const name = textOf(bytes.subarray(offset, offset + length));
  if (name === "") return undefined;
  if (hasControls(name)) refuse("the name of the backing file has control characters in it");
  return name;
}

function checkLimits(header: Header, fileSize: number, refuse: Refuse): void {
  const { clusterSize, l1Size } = header;
  if (header.refcountOrder > q.REFCOUNT_ORDER_MAX) {
    refuse(`refcount_order is ${header.refcountOrder}; 6 (64 bits) is the most`);
  }
  if (l1Size * 8 > q.L1_BYTES_MAX) refuse(`l1_size is ${l1Size}; a table has 32 MiB at the most`);
  const needed = l1EntriesNeeded(header);
  if (l1Size < needed) refuse(`l1_size is ${l1Size}; a disk of this size needs ${needed}`);
  checkTable("l1_table_offset", header.l1Offset, l1Size * 8, clusterSize, fileSize, refuse);
  if (header.snapshotCount > q.SNAPSHOTS_MAX) {
    refuse(`nb_snapshots is ${header.snapshotCount}; ${q.SNAPSHOTS_MAX} is the most`);
  }
  if (header.snapshotCount > 0) {
    const begin = header.snapshotsOffset;
    checkTable("snapshots_offset", begin, header.snapshotCount * 40, clusterSize, fileSize, refuse);
  }
}

function checkRefcountTable(
  header: Header,
  fileSize: number,
  toCheck: boolean,
  refuse: Refuse,
): void {
  const { refcountTableClusters: count, refcountTableOffset: at, clusterSize } = header;
  const length = count * clusterSize;
  if (length > q.REFCOUNT_TABLE_BYTES_MAX) {
    refuse(`refcount_table_clusters is ${count}; a table has 8 MiB at the most`);
  }
  if (toCheck && (at === 0 || at + length > fileSize)) {
    header.refcountTableClusters = 0;
    return;
  }
  if (length === 0 && !toCheck) {
    refuse("refcount_table_clusters is 0: nothing counts the clusters");
  }
  checkTable("refcount_table_offset", at, length, clusterSize, fileSize, refuse);
}

function checkTable(
  name: string,
  offset: number,
  length: number,
  clusterSize: number,
  fileSize: number,
  refuse: Refuse,
): void {
  if (length === 0) return;
  if (offset === 0 || offset % clusterSize !== 0) {
    refuse(`${name} is ${offset}; it has to be a multiple of the cluster size ${clusterSize}`);
  }
  if (offset + length > fileSize) {
    refuse(`${name} is ${offset}: the table of ${length} bytes goes beyond the end of the file`);
  }
}

function checkCombinations(header: Header, refuse: Refuse): void {
  const compression = (header.incompatible & q.INCOMPATIBLE_COMPRESSION) !== 0;
  if (compression !== (header.compressionType !== q.COMPRESSION_DEFLATE)) {
    refuse(`compression_type is ${header.compressionType}, its feature bit says otherwise`);
  }
  if (header.compressionType > q.COMPRESSION_ZSTD) {
    refuse(`compression_type is ${header.compressionType}; 0 (deflate) and 1 (zstd) are known`);
  }
  if (header.extendedL2 && header.clusterBits < q.EXTENDED_L2_CLUSTER_BITS_MIN) {
    refuse(`cluster_bits is ${header.clusterBits}; extended L2 entries need 14 at least`);
  }
  if (header.externalData && header.snapshotCount > 0) {
    refuse("nb_snapshots is not 0; with an external data file there are no snapshots");
  }
  if (header.dataFileName !== undefined && hasControls(header.dataFileName)) {
    refuse("the name of the external data file has control characters in it");
  }
  if (isRawData(header) && header.backingName !== undefined) {
    refuse("has a raw external data file and a backing file; only one of them is allowed");
  }
  if (header.bitmaps === undefined && (header.autoclearLow & q.AUTOCLEAR_BITMAPS) !== 0) {
    refuse("autoclear_features speaks of bitmaps, and the bitmaps extension is missing");
  }
  refuseEncrypted(header, refuse);
}

function refuseEncrypted(header: Header, refuse: Refuse): void {
  const { cryptMethod } = header;
  if (cryptMethod === q.CRYPT_NONE || cryptMethod === q.CRYPT_AES) return;
  if (cryptMethod !== q.CRYPT_LUKS) refuse(`crypt_method is ${cryptMethod}; 2 (LUKS) is known`);
  if (header.cryptHeader === undefined) refuse("crypt_method is LUKS without an encryption header");
  if (header.externalData) refuse("crypt_method is LUKS: not served with an external data file");
}

/** The external data file is to stay a raw image of the disk. */
export function isRawData(header: Header): boolean {
  return header.externalData && (header.autoclearLow & q.AUTOCLEAR_RAW_DATA_FILE) !== 0;
}

/** Entries of the L1 table that the disk itself has a use for. */
export function l1EntriesNeeded(header: Header): number {
  return Math.ceil(header.size / (header.clusterSize * l2EntriesOf(header)));
}

/** Entries of one L2 table. */
export function l2EntriesOf(header: { clusterSize: number; extendedL2: boolean }): number {
  return header.clusterSize / (header.extendedL2 ? 16 : 8);
}
