/** src/control/stats.ts: counters in a file that one process maps and another reads. */

import { expect, test } from "bun:test";
import { statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { wordsAt } from "../../../ffi/arena.ts";
import { atOneMoment, makeCounters, readStats } from "../../../src/control/stats.ts";
import { removeState } from "../../../src/control/state.ts";
import { Tally } from "../../../src/queue/tally.ts";
import {
  addTo,
  CELL_BUSY,
  CELL_OPS,
  THREAD_AREA,
  THREAD_WORDS,
  valueOf,
} from "../../../src/target/counters.ts";
import { tempFolder } from "../../temp.ts";

const folder = tempFolder();

/** Two threads that have done one READ each, and hold a third request together. */
function counted(dir: string) {
  const counters = makeCounters(0, 2, dir);
  for (const [index, address] of counters.addresses.entries()) {
    const tally = new Tally(1, wordsAt(address, THREAD_AREA));
    tally.wake();
    tally.arrived(0);
    tally.done(0, 0, 4096, 4096);
    tally.rest(index);
  }
  return counters;
}

test("the threads' counters add up while they are mapped, and afterwards", () => {
  const dir = folder("sum");
  const before = Date.now();
  const counters = counted(dir);
  const stats = readStats(0, dir)!;
  expect(stats.in_flight).toBe(1);
  expect(stats.ublksrv_pid).toBe(process.pid);
  expect(stats.since_ms).toBeWithin(before, Date.now() + 1);
  expect(stats.ops.read).toMatchObject({ ios: 2, bytes: 8192, errors: 0, time_us: 0 });
  expect(stats.ops.read.histogram[0]).toBe(2);
  expect(stats.ops.write.ios).toBe(0);
  counters.unmap();
  expect(readStats(0, dir)).toEqual(stats);
});

test("a new daemon begins anew, and nothing is left of a removed device", () => {
  const dir = folder("anew");
  counted(dir).unmap();
  makeCounters(0, 1, dir).unmap();
  expect(readStats(0, dir)!.ops.read.ios).toBe(0);
  expect(statSync(`${dir}/0.stat`).mode & 0o777).toBe(0o600);
  removeState(0, dir);
  expect(readStats(0, dir)).toBeUndefined();
});

test("what is not such a file is as good as none", () => {
  const dir = folder("foreign");
  counted(dir).unmap();
  const spoil: (() => void)[] = [
    () => truncateSync(`${dir}/0.stat`, 100),
    () => writeFileSync(`${dir}/0.stat`, Buffer.alloc(8192, 1)),
    () => (removeState(0, dir), symlinkSync("/etc/passwd", `${dir}/0.stat`)),
  ];
  for (const act of spoil) {
    act();
    expect(readStats(0, dir)).toBeUndefined();
  }
});

test("a number between its two halves is not believed", () => {
  const words = new Int32Array(2 * THREAD_WORDS);
  const second = words.subarray(THREAD_WORDS);
  addTo(second, CELL_OPS, 2 ** 30 - 1);
  const torn = words.slice();
  torn[THREAD_WORDS + CELL_OPS * 2 + 1] = 1;
  addTo(second, CELL_OPS, 6);
  const copies = [torn, words, words];
  const seen = atOneMoment(() => copies.shift()!.slice());
  expect(valueOf(seen.subarray(THREAD_WORDS), CELL_OPS)).toBe(2 ** 30 + 5);
});

test("what is in flight becomes less as well, and is read all the same", () => {
  const words = new Int32Array(THREAD_WORDS);
  const copies = [3, 2].map((busy) => {
    const copy = words.slice();
    addTo(copy, CELL_BUSY, busy);
    return copy;
  });
  expect(
    valueOf(
      atOneMoment(() => copies.shift()!),
      CELL_BUSY,
    ),
  ).toBe(3);
});
