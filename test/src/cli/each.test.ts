/** src/cli/each.ts: one that fails is told as if it were alone, and the others are gone on with. */

import { afterEach, expect, spyOn, test } from "bun:test";
import { constants } from "node:os";
import { SysError } from "../../../ffi/errno.ts";
import { each } from "../../../src/cli/each.ts";
import * as print from "../../../src/cli/print.ts";

const { EBUSY, ENODEV } = constants.errno;
/** No driver has so many. */
const FIRST = 1_000_001;

/** Of three devices the second one fails; answers what was done and what was said. */
async function said(failure: Error, json: boolean): Promise<[done: number[], text: string]> {
  const note = spyOn(print, "note").mockImplementation(() => {});
  const done: number[] = [];
  await each("del", [FIRST, FIRST + 1, FIRST + 2], json, async (id) => {
    if (id === FIRST + 1) throw failure;
    done.push(id);
  });
  const text = note.mock.calls.map(([line]) => line).join("");
  note.mockRestore();
  return [done, text];
}

const OTHERS = [FIRST, FIRST + 2];
const busy = new SysError({ op: "stop", errno: EBUSY, subject: "device 1", hint: "end that use" });

afterEach(() => {
  process.exitCode = 0;
});

test("as lines, the hint among them", async () => {
  const [done, text] = await said(busy, false);
  expect(done).toEqual(OTHERS);
  expect(text).toMatch(/^ublk del: stop device 1: EBUSY \(.+\)\n {7}end that use\n$/);
  expect(process.exitCode).toBe(1);
});

test("as JSON, a line for each", async () => {
  const [done, text] = await said(busy, true);
  expect(done).toEqual(OTHERS);
  expect(JSON.parse(text).error).toMatchObject({ verb: "del", errno: "EBUSY", exit_code: 1 });
  expect(text.trimEnd()).not.toContain("\n");
  expect(process.exitCode).toBe(1);
});

test("a device that has just gone is no failure", async () => {
  const gone = new SysError({ op: "UBLK_U_CMD_GET_DEV_INFO2", errno: ENODEV });
  expect(await said(gone, false)).toEqual([OTHERS, ""]);
  expect(process.exitCode ?? 0).toBe(0);
});
