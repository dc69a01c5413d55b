/** targets/fault_inject/rules.ts: what the words mean. */

import { expect, test } from "bun:test";
import { UsageError } from "../../../src/target/parse.ts";
import { OP_FLUSH, OP_READ, OP_WRITE } from "../../../src/target/target.ts";
import { configure } from "../../../targets/fault_inject/rules.ts";

test.each([
  [{}, { size: 2 ** 30, delays: {}, errorRate: 0, errno: 5, seed: 0 }],
  [{ "delay-us": "10" }, { delays: { 0: 10, 1: 10, 2: 10, 3: 10, 5: 10 } }],
  [{ "delay-us": "10,flush=0" }, { delays: { 0: 10, 1: 10, 2: 0, 3: 10, 5: 10 } }],
  [{ "delay-us": "flush=0,10" }, { delays: { 0: 10, 1: 10, 2: 0, 3: 10, 5: 10 } }],
  [{ "delay-us": "read=1,write-zeroes=2" }, { delays: { [OP_READ]: 1, 5: 2 } }],
  [{ "error-rate": "1%" }, { errorRate: 0.01, errorOps: [0, 1, 2, 3, 5] }],
  [{ "error-rate": ".5", "error-ops": "write,FLUSH" }, { errorOps: [OP_WRITE, OP_FLUSH] }],
  [{ "error-ops": "flush" }, { errorRate: 1, errorOps: [OP_FLUSH] }],
  [{ "error-sectors": "7" }, { errorRate: 1, errorSectors: [7, 7] }],
  [
    { "error-sectors": "0-9", errno: "enospc" },
    { errorSectors: [0, 9], errno: 28 },
  ],
  [{ die: "in-start" }, { die: { point: "in-start", count: 1 } }],
  [{ die: "before-commit:9" }, { die: { point: "before-commit", count: 9 } }],
])("%j", (values, part) => {
  expect(configure(values)).toMatchObject(part);
});

test.each([
  [{ "delay-us": "fast" }, "--delay-us 'fast'"],
  [{ "delay-us": "nosuch=1" }, "--delay-us 'nosuch'"],
  [{ "delay-us": "read=1,READ=2" }, "two delays for read"],
  [{ "delay-us": "read=1=2" }, "--delay-us '1=2'"],
  [{ "delay-us": "1,2" }, "two delays for all"],
  [{ "error-rate": "2" }, "--error-rate '2'"],
  [{ "error-rate": "" }, "--error-rate ''"],
  [{ "error-sectors": "9-8" }, "--error-sectors '9-8'"],
  [{ "error-sectors": "1M" }, "--error-sectors '1M'"],
  [{ "error-ops": "trim" }, "--error-ops 'trim'"],
  [{ "error-ops": "read", errno: "EWHAT" }, "--errno 'EWHAT'"],
  [{ errno: "EIO" }, "--errno: say what fails"],
  [{ seed: "1" }, "--seed: say what fails"],
  [{ die: "soon" }, "--die 'soon'"],
  [{ die: "in-start:3" }, "--die 'in-start:3'"],
  [{ die: "before-commit:0" }, "--die '0'"],
  [{ die: "before-commit:1:2" }, "--die '1:2'"],
  [{ file: "a", size: "1G" }, "--size: with -f"],
  [{ size: "513" }, "--size '513'"],
])("%j is refused", (values, message) => {
  expect(() => configure(values)).toThrow(UsageError);
  expect(() => configure(values)).toThrow(message);
});
