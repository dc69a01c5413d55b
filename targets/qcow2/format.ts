/** Numbers that the format dictates (qemu's docs/interop/qcow2.rst), under the names it uses. */

import { FILE_END_MAX } from "../../src/target/file_io.ts";

export const MAGIC = 0x514649fb;

export const V2_HEADER_LENGTH = 72;
export const V3_HEADER_LENGTH = 104;
export const CRYPT_METHOD_AT = 32;
/** Where fields of the header stand that are written again after the image was made. */
export const SIZE_AT = 24;
export const L1_SIZE_AT = 36;
export const L1_TABLE_OFFSET_AT = 40;
export const REFCOUNT_TABLE_OFFSET_AT = 48;
export const INCOMPATIBLE_FEATURES_AT = 72;
export const AUTOCLEAR_FEATURES_AT = 88;

export const INCOMPATIBLE_DIRTY = 1;
export const INCOMPATIBLE_CORRUPT = 2;
export const INCOMPATIBLE_DATA_FILE = 4;
export const INCOMPATIBLE_COMPRESSION = 8;
export const INCOMPATIBLE_EXTENDED_L2 = 16;
export const INCOMPATIBLE_KNOWN = 31;
export const COMPATIBLE_LAZY_REFCOUNTS = 1;
export const AUTOCLEAR_BITMAPS = 1;
export const AUTOCLEAR_RAW_DATA_FILE = 2;

export const CRYPT_NONE = 0;
export const CRYPT_AES = 1;
export const CRYPT_LUKS = 2;

export const COMPRESSION_DEFLATE = 0;
export const COMPRESSION_ZSTD = 1;

export const EXTENSION_END = 0;
export const EXTENSION_BACKING_FORMAT = 0xe2792aca;
export const EXTENSION_FEATURE_NAMES = 0x6803f857;
export const EXTENSION_BITMAPS = 0x23852875;
export const EXTENSION_CRYPT_HEADER = 0x0537be77;
export const EXTENSION_DATA_FILE = 0x44415441;

export const CLUSTER_BITS_MIN = 9;
/** qemu's limit: 2 MiB. */
export const CLUSTER_BITS_MAX = 21;
export const EXTENDED_L2_CLUSTER_BITS_MIN = 14;
export const SUBCLUSTERS = 32;
export const BACKING_NAME_MAX = 1023;
export const REFCOUNT_ORDER_MAX = 6;

/** qemu's limits, which bound what a hostile header can make us read. */
export const L1_BYTES_MAX = 32 << 20;
export const REFCOUNT_TABLE_BYTES_MAX = 8 << 20;
export const SNAPSHOTS_MAX = 65536;
export const SNAPSHOT_TABLE_BYTES_MAX = 64 << 20;
export const BITMAPS_MAX = 65535;
export const BITMAP_DIRECTORY_BYTES_MAX = 64 << 20;

/** An entry of a table is two words, high one first. These are bits of the high word. */
export const HIGH_COPIED = 0x80000000;
export const HIGH_COMPRESSED = 0x40000000;
export const HIGH_RESERVED = 0x3f000000;
export const HIGH_OFFSET = 0x00ffffff;
/** Bits of the low word. */
export const LOW_ZERO = 1;
export const LOW_OFFSET = 0xfffffe00;
export const LOW_RESERVED = 0x1fe;

export const TWO_32 = 2 ** 32;
export const SECTOR = 512;
/** No file that is served is larger. */
export const OFFSET_MAX = FILE_END_MAX;
