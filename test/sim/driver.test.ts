/** The simulated driver itself: a server that breaks a rule is found out. */

import { expect, test } from "bun:test";
import { Arena } from "../../ffi/arena.ts";
import { SimDriver } from "./driver.ts";
import { EIO } from "./errno.ts";
import { Memory } from "./memory.ts";
import { SimTimers } from "./timers.ts";
import { Random } from "./random.ts";
import { type Cqe, SimRing } from "./ring.ts";
import type { Sqe } from "./sqe.ts";
import { READ, WRITE } from "./tags.ts";

const FETCH = 0xc0107520;
const COMMIT = 0xc0107521;
const LENGTH = 4096;

function command(cmdOp: number, tag: number, result: number, address: number): Sqe {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint16(2, tag, true);
  view.setInt32(4, result, true);
  view.setBigUint64(8, BigInt(address), true);
  const zeros = { flags: 1, ioprio: 0, file: 0, offset: 0, address: 0, length: 0, opFlags: 0 };
  const rest = {
    slot: tag,
    meta: 0,
    bufIndex: 0,
    personality: 0,
    fileIndex: 0,
    pad: 0,
    pages: undefined,
  };
  return { opcode: 46, ...zeros, ...rest, cmdOp, command: view };
}

/** A driver with two tags, a server's buffers, and the completions that have come. */
function fresh() {
  const memory = new Memory();
  const iods = new Int32Array(new ArrayBuffer(2 * 24));
  const how = { mode: "copy", batch: false, userCopy: false } as const;
  const sizes = { queues: 1, depth: 2, maxIoBytes: LENGTH };
  const views = [new DataView(iods.buffer)];
  const driver = new SimDriver({ ...how, ...sizes }, views, memory, new Random(1));
  const nothing = (): void => {};
  const timers = new SimTimers(memory, new Random(1));
  const surroundings = { step: () => false, linger: nothing, check: nothing, broke: nothing };
  const ring = new SimRing(4, new Map(), memory, timers, surroundings, (queued) => queued);
  const { address } = new Arena(2 * LENGTH);
  const cqes: Cqe[] = [];
  const done = (res: number): Cqe => {
    const cqe = { slot: 0, meta: 0, res, flags: 0, reaped: true };
    cqes.push(cqe);
    return cqe;
  };
  const results: number[] = [];
  const server = {
    fetch: (tag: number) =>
      driver.submit(command(FETCH, tag, 0, address + tag * LENGTH), done, ring),
    commit: (tag: number, result: number, at = address + tag * LENGTH) =>
      driver.submit(command(COMMIT, tag, result, at), done, ring),
  };
  const ask = (op: number, bytes = new Uint8Array(LENGTH)): Uint8Array => {
    const ended = (result: number): void => void results.push(result);
    driver.queue({ op, flags: 0, sector: 0, sectors: bytes.length / 512, bytes, ended });
    return bytes;
  };
  return { driver, iods, memory, address, cqes, results, server, ask };
}

/** As `fresh`, with both tags armed and one READ in the server's hands: its tag. */
function serving() {
  const all = fresh();
  all.server.fetch(0);
  all.server.fetch(1);
  const bytes = all.ask(READ);
  all.driver.fire();
  const tag = all.iods[1] === 8 ? 0 : 1;
  return { ...all, bytes, tag };
}

test("requests come when every tag has fetched, and not before", () => {
  const { driver, server, ask } = fresh();
  ask(READ);
  server.fetch(0);
  expect(driver.ready()).toBe(0);
  server.fetch(1);
  expect(driver.ready()).toBe(1);
});

test("a READ that is committed has the bytes of the server's buffer", () => {
  const { memory, address, bytes, tag, server, results } = serving();
  memory.destination(address + tag * LENGTH, LENGTH).fill(7);
  server.commit(tag, LENGTH);
  expect(results).toEqual([0]);
  expect(bytes.every((byte) => byte === 7)).toBe(true);
});

test("a WRITE that arrives has put its bytes into the server's buffer", () => {
  const { driver, iods, memory, address, server, ask } = fresh();
  server.fetch(0);
  server.fetch(1);
  ask(WRITE, new Uint8Array(LENGTH).fill(9));
  driver.fire();
  const tag = iods[0] === WRITE ? 0 : 1;
  expect(memory.source(address + tag * LENGTH, LENGTH).every((byte) => byte === 9)).toBe(true);
});

test("a short READ comes again for the rest, an empty one is EIO", () => {
  const { driver, iods, tag, server, results, cqes } = serving();
  server.commit(tag, 1024);
  expect(results).toEqual([]);
  driver.fire();
  const again = iods[1] === 6 ? 0 : 1;
  expect(iods[again * 6 + 2]).toBe(2);
  server.commit(again, 0);
  expect(results).toEqual([-EIO]);
  expect(cqes.filter(({ res }) => res === 0)).toHaveLength(2);
});

test.each([
  ["a tag fetched twice", (s: Served) => s.server.fetch(1 - s.tag), "fetched in state armed"],
  ["a commit without a request", (s: Served) => s.server.commit(1 - s.tag, 0), "without a request"],
  ["a result that is too large", (s: Served) => s.server.commit(s.tag, 4097), "result 4097"],
  ["a result that is no errno", (s: Served) => s.server.commit(s.tag, -4096), "result -4096"],
  ["half a sector", (s: Served) => s.server.commit(s.tag, 100), "100 bytes done"],
  ["another buffer", (s: Served) => s.server.commit(s.tag, 0, s.address + 1), "another buffer"],
  ["a request that is forgotten", (s: Served) => s.driver.released(), "never committed"],
])("%s is found out", (_, breakRule, complaint) => {
  const served = serving();
  expect(() => breakRule(served)).toThrow(complaint);
});

test("a request committed twice is found out", () => {
  const { tag, server } = serving();
  server.commit(tag, LENGTH);
  expect(() => server.commit(tag, LENGTH)).toThrow("without a request");
});

test("a buffer that was given back may not be filled any more", () => {
  const { memory, address, tag, server } = serving();
  const buffer = address + tag * LENGTH;
  server.commit(tag, LENGTH);
  expect(() => memory.destination(buffer, 512)).toThrow("the tag is armed");
  expect(() => memory.source(4096, 512)).toThrow("not the server's");
});

test("after QUIESCE idle tags are aborted, and one in the server's hands is not", () => {
  const { driver, tag, server, cqes, ask } = serving();
  driver.quiesce();
  ask(READ);
  while (driver.ready() > 0) driver.fire();
  server.commit(tag, LENGTH);
  while (driver.ready() > 0) driver.fire();
  expect(cqes.map(({ res }) => res)).toEqual([0, -19]);
});

type Served = ReturnType<typeof serving>;
