/** targets/fault_inject.ts: what the words mean, and a server that dies where it was told to. */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { OP_FLUSH, OP_READ, OP_WRITE } from "../../src/target/target.ts";
import { UsageError } from "../../src/target/parse.ts";
import faultInject from "../../targets/fault_inject.ts";
import { fileOf, tempFolder } from "../temp.ts";

const path = tempFolder();

describe("words:", () => {
  test.each([
    [{}, { size: 2 ** 30, delays: {}, errorRate: 0, errno: 5, seed: 0 }],
    [{ "delay-us": "10" }, { delays: { 0: 10, 1: 10, 2: 10, 3: 10, 5: 10 } }],
    [{ "delay-us": "10,flush=0" }, { delays: { 0: 10, 1: 10, 2: 0, 3: 10, 5: 10 } }],
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
    expect(faultInject.configure(values)).toMatchObject(part);
  });

  test.each([
    [{ "delay-us": "fast" }, "--delay-us 'fast'"],
    [{ "delay-us": "nosuch=1" }, "--delay-us 'nosuch'"],
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
    [{ file: "a", size: "1G" }, "--size: with -f"],
    [{ size: "513" }, "--size '513'"],
  ])("%j is refused", (values, message) => {
    expect(() => faultInject.configure(values)).toThrow(UsageError);
    expect(() => faultInject.configure(values)).toThrow(message);
  });
});

test("a file is locked and has its size; what goes wrong is said with it", () => {
  const file = fileOf(path("a.img"), 1 << 20);
  const config = faultInject.configure({ file, "error-rate": "1%", die: "in-recovery" });
  const { disk, close } = faultInject.open(JSON.parse(JSON.stringify(config)));
  expect(disk).toMatchObject({ size: 1 << 20, threads: 1, flush: true });
  const faults = { error_rate: "1%", die: "in-recovery" };
  expect(disk.report).toEqual({ backing_file: file, ...faults });
  close();
});

const TARGET = join(import.meta.dir, "../../targets/fault_inject.ts");
const SCRIPT = (die: string, recovering: boolean, requests: number) => `
  import target from "${TARGET}";
  const config = target.configure({ size: "1M", die: "${die}" });
  const { disk } = target.open(config);
  const handlers = target.attach(config, disk, { runnable: [], recovering: ${recovering} });
  handlers.begin();
  for (let count = 0; count < ${requests}; count++) {
    const io = { op: ${OP_WRITE}, offset: 0, length: 512 };
    if (handlers.queueIo(io) !== 512) throw new Error("not done");
    handlers.ioDone(io);
  }
  console.log("alive");
`;

test.each([
  ["before-fetch", false, 0, true],
  ["in-start", false, 0, true],
  ["in-start", true, 0, false],
  ["in-recovery", true, 0, true],
  ["in-recovery", false, 9, false],
  ["between-fetch-and-commit", false, 1, true],
  ["between-fetch-and-commit:3", false, 2, false],
  ["between-fetch-and-commit:3", false, 3, true],
  ["before-commit:3", true, 2, false],
  ["before-commit:3", true, 3, true],
] as const)("--die %s; taken over: %p; %i requests: dead is %p", (die, recovering, count, dead) => {
  const { stdout, signalCode } = Bun.spawnSync([
    ...[process.execPath, "-e", SCRIPT(die, recovering, count)],
  ]);
  expect([stdout.toString(), signalCode ?? null]).toEqual(
    dead ? ["", "SIGKILL"] : ["alive\n", null],
  );
});
