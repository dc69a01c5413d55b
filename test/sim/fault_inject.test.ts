/** fault_inject over a simulated disk: slow requests end well, and errors come where asked. */

import { expect } from "bun:test";
import type { OptionValues } from "../../src/target/target.ts";
import faultInject from "../../targets/fault_inject/target.ts";
import { diskOf } from "../disks.ts";
import { Guest } from "./guest.ts";
import { story } from "./seeds.ts";
import { READ, WRITE } from "./tags.ts";
import { KiB, SECTOR, World } from "./world.ts";

const PATH = import.meta.path;
const SIZE = 256 * KiB;

function worldOf(seed: number, values: OptionValues): World {
  const config = faultInject.configure({ file: "/disk", ...values });
  const disk = diskOf({ files: [1] });
  return new World({
    ...{ seed, queues: 2, fileSize: SIZE },
    attach: (context) => faultInject.attach(config, disk, context),
  });
}

function serve(world: World, mayFail: boolean): Guest {
  const guest = new Guest(world, {
    ...{ size: SIZE, count: 300, outstanding: 12, maxSectors: 64, mayFail },
  });
  expect(world.run()).toBe(0);
  expect(guest.finished()).toBe(true);
  expect(world.complaints).toEqual([]);
  return guest;
}

story("delayed requests find what was written, short transfers and all", PATH, (seed) => {
  const world = worldOf(seed, { "delay-us": "1500000,read=7" });
  Object.assign(world.disk.faults, { short: 0.3, again: 0.1 });
  serve(world, false);
  expect(world.timers.asked.length).toBeGreaterThan(100);
  expect(new Set(world.timers.asked)).toEqual(new Set([1_500_000_000, 7000]));
});

story("a part of the requests fails, and leaves the disk as it was", PATH, (seed) => {
  const { count } = serve(worldOf(seed, { "error-rate": "20%", "delay-us": "write=1" }), true);
  expect(count.failed).toBeGreaterThan(20);
  expect(count.failed).toBeLessThan(120);
});

story("requests fail that touch the bad sectors, and no others", PATH, (seed) => {
  const world = worldOf(seed, { "error-sectors": "100-109", errno: "ENODATA" });
  const asked = Array.from({ length: 100 }, () => {
    const sectors = 1 + world.random.int(16);
    const sector = world.random.int(SIZE / SECTOR - sectors);
    const op = world.random.pick([READ, WRITE]);
    const hit = sector < 110 && sector + sectors > 100;
    return { hit, outcome: world.ask({ op, flags: 0, sector, sectors }) };
  });
  expect(world.run()).toBe(0);
  for (const { hit, outcome } of asked) expect(outcome.result).toBe(hit ? -61 : 0);
});
