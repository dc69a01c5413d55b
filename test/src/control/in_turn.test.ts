/** src/control/in_turn.ts: who begins a device and who ends it take turns. */

import { expect, test } from "bun:test";
import { mkdirSync, rmdirSync } from "node:fs";
import { inTurn } from "../../../src/control/in_turn.ts";
import { tempFolder } from "../../temp.ts";

const folder = tempFolder();
const ID = 3;
const sysfs = folder(".");

/** One that has its turn until it is told to end it. */
function holder(how?: { sysfs?: string; ms?: number }) {
  const over = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  let hasTurn = false;
  const ended = inTurn(
    ID,
    async () => {
      hasTurn = true;
      begun.resolve();
      await over.promise;
    },
    { sysfs, ...how },
  );
  return { begun: begun.promise, ended, end: over.resolve, hasTurn: () => hasTurn };
}

test("the second waits for the first, also where the device goes meanwhile", async () => {
  mkdirSync(folder("ublkc3"));
  const first = holder();
  await first.begun;
  const second = holder();
  await Bun.sleep(100);
  expect(second.hasTurn()).toBe(false);
  rmdirSync(folder("ublkc3"));
  first.end();
  await second.begun;
  second.end();
  await Promise.all([first.ended, second.ended]);
});

test("the next device of that number is another matter", async () => {
  mkdirSync(folder("ublkc3"));
  const first = holder();
  await first.begun;
  rmdirSync(folder("ublkc3"));
  mkdirSync(folder("ublkc3"));
  const next = holder();
  await next.begun;
  for (const one of [first, next]) {
    one.end();
    await one.ended;
  }
  rmdirSync(folder("ublkc3"));
});

test("nobody waits for ever, nor where there is no such device or no sysfs", async () => {
  for (const where of [sysfs, folder("none")]) {
    const nobody = holder({ sysfs: where });
    await nobody.begun;
    nobody.end();
    await nobody.ended;
  }
  mkdirSync(folder("ublkc3"));
  const first = holder();
  await first.begun;
  const begun = performance.now();
  const second = holder({ ms: 100 });
  await second.begun;
  expect(performance.now() - begun).toBeGreaterThan(90);
  for (const one of [first, second]) {
    one.end();
    await one.ended;
  }
});

test("a turn ends with a failure, which is thrown, and the next one has its turn", async () => {
  const failure = inTurn(ID, () => Promise.reject(new Error("no")), { sysfs });
  expect(await failure.catch((error: unknown) => String(error))).toBe("Error: no");
  const next = holder({ ms: 60_000 });
  await next.begun;
  next.end();
  await next.ended;
});
