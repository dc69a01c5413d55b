/** A disk's facts as the driver's parameters. */

import {
  UBLK_ATTR_FUA,
  UBLK_ATTR_READ_ONLY,
  UBLK_ATTR_ROTATIONAL,
  UBLK_ATTR_VOLATILE_CACHE,
  UBLK_PARAM_TYPE_BASIC,
  UBLK_PARAM_TYPE_DISCARD,
  UBLK_PARAM_TYPE_DMA_ALIGN,
  UBLK_PARAM_TYPE_SEGMENT,
  ublkParams,
} from "../../ffi/ublk_cmd.ts";
import type { Disk, Segments } from "../target/target.ts";
import type { Mode } from "../target/thread_shape.ts";

const SECTOR_BITS = 9;
/** What the kernel's own loop device allows: a request's length is 32 bits of bytes. */
const DISCARD_SECTORS_MAX = 0xffffffff >>> SECTOR_BITS;
/** sysfs does not tell this limit of a device; it is what the block layer itself assumes. */
const BLK_SEG_BOUNDARY_MASK = 0xffffffffn;

/** struct ublk_params for SET_PARAMS. `maxIoBytes` is what ADD_DEV answered. */
export function encodeParams(disk: Disk, maxIoBytes: number, mode: Mode): Uint8Array<ArrayBuffer> {
  const discards = disk.discardGranularity > 0;
  // Only where the pages of a request go to the backing file unseen do they matter.
  const unseen = mode.endsWith("zero-copy");
  const aligned = unseen && disk.memoryAlignment > 1;
  // A request that the device below would have to split costs more than two that fit.
  const segments = unseen ? disk.segments : undefined;
  let types = UBLK_PARAM_TYPE_BASIC;
  if (discards || disk.writeZeroes) types |= UBLK_PARAM_TYPE_DISCARD;
  if (aligned) types |= UBLK_PARAM_TYPE_DMA_ALIGN;
  if (segments) types |= UBLK_PARAM_TYPE_SEGMENT;
  const discard = {
    // The driver refuses 0, also for a disk that only writes zeroes.
    discard_granularity: disk.discardGranularity || 1 << disk.blockBits,
    max_discard_sectors: discards ? DISCARD_SECTORS_MAX : 0,
    max_write_zeroes_sectors: disk.writeZeroes ? DISCARD_SECTORS_MAX : 0,
    max_discard_segments: 1,
  };
  return ublkParams.encode({
    len: ublkParams.size,
    types,
    basic: {
      attrs: attributes(disk),
      logical_bs_shift: disk.blockBits,
      physical_bs_shift: disk.physicalBits,
      io_min_shift: disk.physicalBits,
      io_opt_shift: disk.physicalBits,
      max_sectors: maxIoBytes >>> SECTOR_BITS,
      dev_sectors: BigInt(disk.size / 2 ** SECTOR_BITS),
      virt_boundary_mask: BigInt(segments?.gapMask ?? 0),
    },
    ...(types & UBLK_PARAM_TYPE_DISCARD ? { discard } : {}),
    ...(aligned ? { dma: { alignment: disk.memoryAlignment - 1 } } : {}),
    ...(segments ? { seg: segmentParams(segments) } : {}),
  });
}

function segmentParams({ count, size }: Segments) {
  return {
    seg_boundary_mask: BLK_SEG_BOUNDARY_MASK,
    max_segment_size: size,
    max_segments: count,
  };
}

function attributes(disk: Disk): number {
  let attrs = 0;
  if (disk.readOnly) attrs |= UBLK_ATTR_READ_ONLY;
  if (disk.rotational) attrs |= UBLK_ATTR_ROTATIONAL;
  // The driver honours FUA only where there is a cache to write through.
  if (disk.flush) attrs |= UBLK_ATTR_VOLATILE_CACHE;
  if (disk.flush && disk.fua) attrs |= UBLK_ATTR_FUA;
  return attrs;
}
