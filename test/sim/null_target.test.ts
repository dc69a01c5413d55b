/** The null target: reads are zeros, also on a tag whose buffer has just carried a write. */

import { expect } from "bun:test";
import { READ, WRITE } from "./tags.ts";
import { story } from "./seeds.ts";
import { nullDisk } from "./targets.ts";
import { type Asked, KiB, SECTOR, World } from "./world.ts";

story("reads are zeros, whatever the tag has written before", import.meta.path, (seed) => {
  const world = new World({ seed, attach: nullDisk, depth: 2, maxIoBytes: 64 * KiB });
  const reads: Asked[] = [];
  const all: Asked[] = [];
  for (let count = 0; count < 200; count++) {
    const sectors = 1 + world.random.int((64 * KiB) / SECTOR);
    const op = world.random.pick([READ, WRITE]);
    const asked = world.ask({ op, flags: 0, sector: world.random.int(1000), sectors });
    if (op === READ) reads.push(asked);
    all.push(asked);
  }
  expect(world.run()).toBe(0);
  expect(all.every(({ result }) => result === 0)).toBe(true);
  for (const { bytes } of reads) expect(Buffer.alloc(bytes.length).equals(bytes)).toBe(true);
});
