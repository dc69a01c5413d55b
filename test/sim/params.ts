/** The driver's own rules for parameters: ublk_validate_params() of Linux 7.2, one line a rule. */

const PAGE_SHIFT = 12;
const SHIFT_MAX = 28; // 256 MiB
const PAGE_SECTORS = 8;
const BASIC = 1 << 0;
const DISCARD = 1 << 1;
const DEVT = 1 << 2;
const DMA_ALIGN = 1 << 4;
const SEGMENT = 1 << 5;
const DMA_AT = 108;
const SEGMENT_AT = 120;

/** The rule that SET_PARAMS would refuse with EINVAL; undefined when it takes them. */
export function refusalOf(params: Uint8Array, maxIoBytes: number): string | undefined {
  const view = new DataView(params.buffer, params.byteOffset, params.byteLength);
  const types = view.getUint32(4, true);
  if (!(types & BASIC)) return "basic parameters are missing";
  if (types & DEVT) return "device numbers are read-only";
  return (
    basicRefusal(view, maxIoBytes) ??
    (types & DISCARD ? discardRefusal(view) : undefined) ??
    (types & DMA_ALIGN ? dmaRefusal(view) : undefined) ??
    (types & SEGMENT ? segmentRefusal(view) : undefined)
  );
}

function basicRefusal(view: DataView, maxIoBytes: number): string | undefined {
  const [logical, physical] = [view.getUint8(12), view.getUint8(13)];
  const [opt, min] = [view.getUint8(14), view.getUint8(15)];
  const maxSectors = view.getUint32(16, true);
  if (logical < 9 || logical > PAGE_SHIFT) return `logical block of 2^${logical}`;
  if (physical > SHIFT_MAX || physical < logical) return `physical block of 2^${physical}`;
  if (opt > SHIFT_MAX || min > SHIFT_MAX) return `io_opt 2^${opt}, io_min 2^${min}`;
  if (maxSectors > maxIoBytes >> 9) return "max_sectors exceeds the buffer";
  if (maxSectors < PAGE_SECTORS) return "max_sectors is less than a page";
  return undefined;
}

function discardRefusal(view: DataView): string | undefined {
  const granularity = view.getUint32(44, true);
  const [maxSectors, segments] = [view.getUint32(48, true), view.getUint16(56, true)];
  if (maxSectors > 0 && segments !== 1) return `${segments} discard segments`;
  if (granularity === 0) return "discard granularity of 0";
  return undefined;
}

function dmaRefusal(view: DataView): string | undefined {
  const alignment = view.getUint32(DMA_AT, true);
  if (alignment >= 1 << PAGE_SHIFT) return `alignment of ${alignment}`;
  if (alignment & (alignment + 1)) return `alignment ${alignment} is no mask`;
  return undefined;
}

function segmentRefusal(view: DataView): string | undefined {
  const boundary = view.getBigUint64(SEGMENT_AT, true) + 1n;
  const largest = view.getUint32(SEGMENT_AT + 8, true);
  if (boundary < 4096n || (boundary & (boundary - 1n)) !== 0n) return `boundary ${boundary}`;
  if (largest < 4096) return `segments of ${largest} bytes`;
  return undefined;
}
