/** Compressed clusters: where they stand, and their contents. */

import { inflateRawSync, zstdDecompressSync } from "node:zlib";
import * as q from "./format.ts";

export interface CompressedPlace {
  offset: number;
  length: number;
}

/** What the descriptor of a compressed cluster says, out of the two words of its entry. */
export function compressedPlace(high: number, low: number, clusterBits: number): CompressedPlace {
  // The offset has 62 - (cluster_bits - 8) bits, 49 at the least; the rest counts sectors.
  const highBits = 62 - (clusterBits - 8) - 32;
  const descriptor = high & 0x3fffffff;
  const offset = (descriptor & (2 ** highBits - 1)) * q.TWO_32 + (low >>> 0);
  const sectors = (descriptor >>> highBits) + 1;
  return { offset, length: sectors * q.SECTOR - (offset % q.SECTOR) };
}

/**
 * The cluster, or undefined when `input` does not hold exactly one. Never makes more than a
 * cluster, whatever the input promises.
 */
export function decompress(
  input: Uint8Array,
  type: number,
  clusterSize: number,
): Uint8Array | undefined {
  try {
    const options = { maxOutputLength: clusterSize };
    const output =
      type === q.COMPRESSION_ZSTD
        ? zstdDecompressSync(zstdFrame(input), options)
        : inflateRawSync(input, options);
    return output.length === clusterSize ? output : undefined;
  } catch {
    return undefined; // the stream is broken: the one who reads it is told EIO
  }
}

const ZSTD_MAGIC = 0xfd2fb528;

/** The first frame: what stands behind it in the last sector is somebody else's. */
function zstdFrame(input: Uint8Array): Uint8Array {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  if (view.getUint32(0, true) !== ZSTD_MAGIC) return input;
  const descriptor = view.getUint8(4);
  const singleSegment = (descriptor >>> 5) & 1;
  const dictionary = [0, 1, 2, 4][descriptor & 3]!;
  const contentSize = [singleSegment, 2, 4, 8][descriptor >>> 6]!;
  let at = 5 + (1 - singleSegment) + dictionary + contentSize;
  for (let last = 0; last === 0;) {
    const block = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    last = block & 1;
    const runLength = ((block >>> 1) & 3) === 1;
    at += 3 + (runLength ? 1 : block >>> 3);
  }
  const checksum = (descriptor >>> 2) & 1 ? 4 : 0;
  return input.subarray(0, at + checksum);
}
