/** src/cli/modes.ts: ways to move data, by name, and which of them exclude each other. */

import { describe, expect, test } from "bun:test";
import { askedFeatures, MODE_OPTIONS, zeroCopyMin } from "../../../src/cli/modes.ts";
import { parseOptions } from "../../../src/cli/options.ts";
import type { Recovery } from "../../../src/control/features.ts";
import { MODES } from "../../../src/target/thread_shape.ts";
import { UsageError } from "../../../src/target/parse.ts";

function asked(line: string, splitQueues = false) {
  const words = line === "" ? [] : line.split(" ");
  return askedFeatures(parseOptions(words, MODE_OPTIONS), splitQueues);
}

test.each([
  ["", "choose"],
  ["-z", "zero-copy-best"],
  ["--zero-copy", "zero-copy-best"],
  ["--usercopy", "user-copy"],
  ["-g", "get-data"],
  ["-g 1", "get-data"],
  ["-g 0", "choose"],
  ["-g 0 -z", "zero-copy-best"],
  ...MODES.map((mode) => [`--mode ${mode}`, mode] as [string, string]),
])("'%s' asks for %s", (line, mode) => {
  expect(asked(line)).toMatchObject({ mode, batch: false, splitQueues: false });
});

test("COMP_IN_TASK is asked for unless it is switched off", () => {
  expect(asked("").compInTask).toBe(true);
  expect(asked("-u").compInTask).toBe(true);
  expect(asked("-u 1").compInTask).toBe(true);
  expect(asked("-u 0").compInTask).toBe(false);
});

test.each([
  ["", "none"],
  ["-r", "wait"],
  ["-r 1", "wait"],
  ["-r 0", "none"],
  ["-r 1 -i 1", "reissue"],
  ["-r -i 0", "wait"],
  ["-i", "reissue"],
  ["-e", "fail"],
  ["-r 1 -e 1", "fail"],
  ["-ri", "reissue"],
  ["-i 0 -e 1", "fail"],
  ["--user_recovery 1 --user_recovery_reissue 1", "reissue"],
])("'%s' asks for recovery of the kind %s", (line, recovery) => {
  expect(asked(line).recovery).toBe(recovery as Recovery);
});

describe("refused in words that name both sides:", () => {
  test.each([
    ["-z -g", "-z and -g exclude each other"],
    ["-zg", "-z and -g exclude each other"],
    ["--usercopy -z", "-z and --usercopy exclude each other"],
    ["--mode copy -g", "--mode and -g exclude each other"],
    ["-b -g", "-b and -g exclude each other"],
    ["-b --mode get-data", "-b and -g exclude each other"],
    ["--mode fast", "--mode 'fast': there is no such mode; there are copy, get-data"],
    ["--mode choose", "there is no such mode"],
    ["--mode toString", "there is no such mode"],
    ["-i -e", "-i and -e exclude each other"],
    ["-r 1 -i 1 -e 1", "-i and -e exclude each other"],
    ["-r 0 -i", "-r 0 and -i exclude each other"],
    ["-r 0 -e", "-r 0 and -e exclude each other"],
    ["--zero-copy-min 64K", "--zero-copy-min is for --mode zero-copy"],
    ["--zero-copy-min 64K -z", "--zero-copy-min is for --mode zero-copy"],
  ])("'%s'", (line, message) => {
    expect(() => asked(line)).toThrow(UsageError);
    expect(() => asked(line)).toThrow(message);
  });

  test.each([
    ["-z", "-z"],
    ["--usercopy", "--usercopy"],
    ["--mode user-copy", "--mode user-copy"],
    ["--mode zero-copy", "--mode zero-copy"],
    ["--mode auto-zero-copy", "--mode auto-zero-copy"],
    ["-r", "-r"],
    ["-i 1", "-i"],
    ["-e", "-e"],
  ])("--unprivileged with '%s'", (line, name) => {
    expect(() => asked(`--unprivileged ${line}`)).toThrow(UsageError);
    expect(() => asked(`--unprivileged ${line}`)).toThrow(`${name} exclude each other`);
  });

  test("batch commands and queues that are split", () => {
    expect(() => asked("-b", true)).toThrow("a queue of batch commands has one thread");
    expect(asked("", true).splitQueues).toBe(true);
  });
});

test.each([
  ["--mode zero-copy", 65536],
  ["--mode zero-copy --zero-copy-min 4K", 4096],
  ["--mode zero-copy --zero-copy-min 0", 0],
])("'%s' copies what is smaller than %i bytes", (line, bytes) => {
  expect(zeroCopyMin(parseOptions(line.split(" "), MODE_OPTIONS))).toBe(bytes);
});

test.each(["supervise", "or-recover"])("--unprivileged does not go with '--%s'", (name) => {
  const values = { unprivileged: true, [name]: true };
  expect(() => askedFeatures(values, false)).toThrow(`--unprivileged and --${name} exclude`);
});

test.each(["", "--mode copy", "-g", "-b", "-r 0"])("--unprivileged goes with '%s'", (line) => {
  expect(asked(`--unprivileged ${line}`.trim()).unprivileged).toBe(true);
});
