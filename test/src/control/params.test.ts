/** src/control/params.ts: facts of a disk as parameters that the driver takes. */

import { describe, expect, test } from "bun:test";
import { ublkParams } from "../../../ffi/ublk_cmd.ts";
import { type Mode, MODES } from "../../../src/target/thread_shape.ts";
import { encodeParams } from "../../../src/control/params.ts";
import type { Disk } from "../../../src/target/target.ts";
import { diskOf } from "../../disks.ts";
import { refusalOf } from "../../sim/params.ts";

const MAX_IO = 512 * 1024;
const BASIC = 1 << 0;
const DISCARD = 1 << 1;
const DMA_ALIGN = 1 << 4;
const SEGMENT = 1 << 5;
const SEGMENTS = { count: 127, size: 2 ** 32 - 1, gapMask: 4095 };

function paramsOf(facts: Partial<Disk>, mode: Mode = "copy", maxIoBytes = MAX_IO) {
  const bytes = encodeParams(diskOf(facts), maxIoBytes, mode);
  return { bytes, ...ublkParams.decode(bytes) };
}

describe("attributes", () => {
  test.each([
    ["nothing special", { flush: false, fua: false }, 0],
    ["read-only", { readOnly: true, flush: false, fua: false }, 1],
    ["rotational", { rotational: true, flush: false, fua: false }, 2],
    ["a cache", { flush: true, fua: false }, 4],
    ["a cache to write through", { flush: true, fua: true }, 12],
    ["FUA without a cache, which the driver would ignore", { flush: false, fua: true }, 0],
    ["all of it", { readOnly: true, rotational: true }, 15],
  ] as const)("%s", (_, facts, attrs) => {
    expect(paramsOf(facts).basic.attrs).toBe(attrs);
  });
});

test("sizes are those of the disk, in the driver's units", () => {
  const { basic } = paramsOf({ size: 3 << 20, blockBits: 12, physicalBits: 14 });
  expect(basic).toMatchObject({
    logical_bs_shift: 12,
    physical_bs_shift: 14,
    dev_sectors: 6144n,
    max_sectors: 1024,
  });
});

test("a disk beyond 4 TiB keeps all its sectors", () => {
  expect(paramsOf({ size: 2 ** 52 + 512 }).basic.dev_sectors).toBe(2n ** 43n + 1n);
});

describe("discard", () => {
  test("is offered in the disk's unit, one segment at a time", () => {
    const { types, discard } = paramsOf({ discardGranularity: 65536 });
    expect(types & DISCARD).toBe(DISCARD);
    expect(discard).toMatchObject({ discard_granularity: 65536, max_discard_segments: 1 });
    expect(discard.max_discard_sectors).toBeGreaterThan(0);
    expect(discard.max_write_zeroes_sectors).toBeGreaterThan(0);
  });

  test("is not, where only zeroes can be written", () => {
    const { discard } = paramsOf({ discardGranularity: 0, writeZeroes: true });
    expect(discard.max_discard_sectors).toBe(0);
    expect(discard.max_write_zeroes_sectors).toBeGreaterThan(0);
    expect(discard.discard_granularity).toBeGreaterThan(0);
  });

  test("is left out where there is neither", () => {
    const { types } = paramsOf({ discardGranularity: 0, writeZeroes: false });
    expect(types & DISCARD).toBe(0);
  });

  test("stays below what a request's 32 bits of bytes can say", () => {
    const { discard } = paramsOf({});
    expect(discard.max_discard_sectors! * 512).toBeLessThan(2 ** 32);
    expect(discard.max_write_zeroes_sectors! * 512).toBeLessThan(2 ** 32);
  });
});

describe("alignment of memory", () => {
  test.each([
    ["zero-copy", 512, 511],
    ["auto-zero-copy", 4, 3],
  ] as const)("matters to %s", (mode, memoryAlignment, mask) => {
    const { types, dma } = paramsOf({ memoryAlignment }, mode);
    expect([types & DMA_ALIGN, dma.alignment]).toEqual([DMA_ALIGN, mask]);
  });

  test.each(["copy", "get-data", "user-copy"] as const)("matters not to %s", (mode) => {
    expect(paramsOf({ memoryAlignment: 512 }, mode).types & DMA_ALIGN).toBe(0);
  });

  test("of one byte is none", () => {
    expect(paramsOf({ memoryAlignment: 1 }, "auto-zero-copy").types & DMA_ALIGN).toBe(0);
  });
});

describe("segments", () => {
  test.each(["zero-copy", "auto-zero-copy"] as const)("of the device below shape %s", (mode) => {
    const { types, basic, seg } = paramsOf({ segments: SEGMENTS }, mode);
    expect(types & SEGMENT).toBe(SEGMENT);
    expect(basic.virt_boundary_mask).toBe(4095n);
    expect(seg).toEqual({
      seg_boundary_mask: 2n ** 32n - 1n,
      max_segment_size: 2 ** 32 - 1,
      max_segments: 127,
    });
  });

  test.each(["copy", "get-data", "user-copy"] as const)("matter not to %s", (mode) => {
    const { types, basic } = paramsOf({ segments: SEGMENTS }, mode);
    expect([types & SEGMENT, basic.virt_boundary_mask]).toEqual([0, 0n]);
  });

  test("are left out where nothing is known", () => {
    const { types, basic } = paramsOf({}, "auto-zero-copy");
    expect([types & SEGMENT, basic.virt_boundary_mask]).toEqual([0, 0n]);
  });
});

describe("the driver takes the parameters of", () => {
  const disks: Partial<Disk>[] = [
    {},
    { blockBits: 12 },
    { size: 512 },
    { size: 2 ** 50 },
    { physicalBits: 9 },
    { physicalBits: 28 },
    { discardGranularity: 0, writeZeroes: false },
    { discardGranularity: 512 },
    { discardGranularity: 2 ** 30 },
    { memoryAlignment: 512 },
    { segments: SEGMENTS },
    { segments: { count: 1, size: 4096, gapMask: 0 } },
    { readOnly: true, discardGranularity: 0, writeZeroes: false },
  ];
  const sizes = [4096, MAX_IO, 32 << 20];
  const cases = MODES.flatMap((mode) =>
    sizes.map((size) => [mode, size] as [mode: Mode, size: number]),
  );

  test.each(cases)("every disk in mode %s with requests of %i bytes", (mode, size) => {
    for (const facts of disks) {
      const { bytes, len, types } = paramsOf(facts, mode, size);
      expect(refusalOf(bytes, size)).toBeUndefined();
      expect([len, types & BASIC]).toEqual([bytes.length, BASIC]);
    }
  });

  test("no disk that breaks a rule: the judge can say no", () => {
    const judge = (facts: Partial<Disk>, maxIo = MAX_IO): string | undefined =>
      refusalOf(paramsOf(facts, "zero-copy", maxIo).bytes, MAX_IO);
    expect(judge({ blockBits: 8 })).toContain("logical block");
    expect(judge({ blockBits: 13 })).toContain("logical block");
    expect(judge({ physicalBits: 29 })).toContain("physical block");
    expect(judge({ blockBits: 12, physicalBits: 9 })).toContain("physical block");
    expect(judge({}, 2 * MAX_IO)).toContain("exceeds the buffer");
    expect(judge({}, 2048)).toContain("less than a page");
    expect(judge({ memoryAlignment: 4097 })).toContain("alignment of 4096");
    expect(judge({ segments: { ...SEGMENTS, size: 2048 } })).toContain("segments of 2048");
    expect(judge({ memoryAlignment: 511 })).toContain("no mask");
  });
});
