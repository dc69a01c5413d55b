/** targets/fault_inject/target.ts: its disk, and a server that dies where it was told to. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { OP_WRITE } from "../../../src/target/target.ts";
import faultInject from "../../../targets/fault_inject/target.ts";
import { fileOf, tempFolder } from "../../temp.ts";

const path = tempFolder();

test("a file is locked and has its size; what goes wrong is said with it", () => {
  const file = fileOf(path("a.img"), 1 << 20);
  const config = faultInject.configure({ file, "error-rate": "1%", die: "in-recovery" });
  const { disk, close } = faultInject.open(JSON.parse(JSON.stringify(config)));
  expect(disk).toMatchObject({ size: 1 << 20, threads: 1, flush: true });
  const faults = { error_rate: "1%", die: "in-recovery" };
  expect(disk.report).toEqual({ backing_file: file, ...faults });
  close();
});

test("a file that has grown keeps the disk that it was", () => {
  const config = faultInject.configure({ file: fileOf(path("b.img"), (1 << 20) + 100) });
  const { disk, close } = faultInject.open(config, undefined, 1 << 20);
  expect(disk.size).toBe(1 << 20);
  close();
});

const TARGET = join(import.meta.dir, "../../../targets/fault_inject/target.ts");
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
