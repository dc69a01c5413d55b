/** src/cli/add.ts: a command line as a plan. */

import { describe, expect, test } from "bun:test";
import { addCommand, makePlan } from "../../../src/cli/add.ts";
import { parseOptions } from "../../../src/cli/options.ts";
import { UsageError } from "../../../src/target/parse.ts";
import type { AnyTarget } from "../../../src/target/target.ts";
import { targets } from "../../../targets/index.ts";

/** The plan that `ublk add LINE` makes. */
async function plan(line: string) {
  const argv = line.split(" ");
  const name = /-t ?(\w+)/.exec(line)![1]!;
  const target: AnyTarget = await targets[name]!();
  const { args = {} } = await addCommand(targets, argv);
  const table = args as Parameters<typeof parseOptions>[1];
  return makePlan(parseOptions(argv, table), target);
}

test("what is left out has a default", async () => {
  expect(await plan("-t null")).toMatchObject({
    target: "null",
    config: { size: 250 * 2 ** 30, fill: true },
    id: -1,
    queues: 1,
    depth: 128,
    maxIoBytes: 512 * 1024,
    features: { mode: "choose", batch: false, compInTask: true, splitQueues: false },
    zeroCopyMin: 65536,
    threads: 0,
  });
});

test("a plan is plain data: it crosses to the daemon as JSON", async () => {
  const made = await plan("-t loop -f /data/a.img -n 3 -q 2 -d 64 --read-only -o 8 -z");
  expect(JSON.parse(JSON.stringify(made))).toEqual(made);
  expect(made).toMatchObject({ id: 3, queues: 2, depth: 64 });
  expect(made.config).toEqual({
    backing_file: "/data/a.img",
    offset: 4096,
    read_only: true,
    buffered_io: false,
  });
});

test("a path is made absolute: the daemon lives elsewhere", async () => {
  const made = await plan("-t loop -f a.img");
  expect(made.config).toMatchObject({ backing_file: `${process.cwd()}/a.img` });
});

test.each([
  ["-t null -q 2", { queues: 2, threads: 0 }],
  ["-t null -q 2 --threads 1", { queues: 2, threads: 1 }],
  ["-t null -q 2 --threads 2", { threads: 2 }],
  ["-t null --max-io-buf-bytes 1M", { maxIoBytes: 2 ** 20 }],
  ["-t null --max_io_buf_bytes 4096", { maxIoBytes: 4096 }],
  ["-tnull -q4096 -d4096", { queues: 4096, depth: 4096 }],
  ["-n -1 -t null", { id: -1 }],
  ["-t null --number -1 -q 2", { id: -1, queues: 2 }],
  ["-t null --number=-1", { id: -1 }],
  ["-t null -n-1", { id: -1 }],
  ["-t null -n /dev/ublkb3", { id: 3 }],
])("'%s'", async (line, part) => {
  expect(await plan(line)).toMatchObject(part);
});

test("more threads than queues split them", async () => {
  expect((await plan("-t null -q 2 --threads 4")).features.splitQueues).toBe(true);
  expect((await plan("-t null -q 2 --threads 2")).features.splitQueues).toBe(false);
});

describe("refused:", () => {
  test.each([
    ["-t null -q 0", "--queues '0': give a whole number from 1 to 4096"],
    ["-t null -q 4097", "--queues '4097'"],
    ["-t null -d 0", "--depth '0'"],
    ["-t null -d 1e2", "--depth '1e2'"],
    ["-t null --threads 0", "--threads '0'"],
    ["-t null -n -2", "--number '-2': this looks like an option"],
    ["-t null --number=-2", "-n '-2': give a device number"],
    ["-t null -n x", "-n 'x': give a device number"],
    ["-t null --max-io-buf-bytes 1000", "give a multiple of 4K, from 4K to 32M"],
    ["-t null --max-io-buf-bytes 0", "give a multiple of 4K, from 4K to 32M"],
    ["-t null --max-io-buf-bytes 64M", "give a multiple of 4K, from 4K to 32M"],
    ["-t null --size 0", "give a positive multiple of 512"],
    ["-t null --size 1000", "give a positive multiple of 512"],
    ["-t null -f x", "unknown option '-f'"],
    ["-t loop", "-t loop needs -f FILE"],
    ["-t loop -f x --size 1G", "unknown option '--size'"],
    ["-t loop -f x -o -1", "for a value write --offset=-1"],
    ["-t loop -f x -o abc", "--offset 'abc'"],
  ])("'%s'", async (line, message) => {
    const error: unknown = await plan(line).catch((failure: unknown) => failure);
    expect(error).toBeInstanceOf(UsageError);
    expect((error as Error).message).toContain(message);
  });

  test.each(["-t nosuch", "-t toString", "-t=null", "--type=NULL"])("'%s'", (line) => {
    expect(addCommand(targets, line.split(" "))).rejects.toThrow("there is no such type");
  });
});

test("the target's own options are there behind whatever comes before its name", async () => {
  for (const line of ["-t loop", "-tloop", "--type=loop", "-zt loop", "-u 1 -t loop"]) {
    const { args = {} } = await addCommand(targets, line.split(" "));
    expect(Object.keys(args)).toContain("file");
  }
  const { args = {} } = await addCommand(targets, ["-n", "3"]);
  expect(Object.keys(args)).not.toContain("file");
});

describe("supervision", () => {
  test.each([
    ["-t null --supervise", "reissue"],
    ["-t null --supervise -r", "wait"],
    ["-t null --supervise -e", "fail"],
    ["-t null --or-recover -n 0", "reissue"],
    ["-t null", "none"],
  ])("'%s' makes a device whose IO does '%s' without a server", async (line, recovery) => {
    expect((await plan(line)).features.recovery).toBe(recovery as never);
  });

  test("needs recovery", async () => {
    expect(plan("-t null -r 0 --supervise")).rejects.toThrow("-r 0 and --supervise exclude");
  });
});
