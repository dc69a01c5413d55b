/** src/control/state.ts: a state file is whole and ours, or it is none. */

import { beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { SysError } from "../../../ffi/errno.ts";
import {
  loadState,
  readAllStates,
  readState,
  removeState,
  writeState,
} from "../../../src/control/state.ts";
import { tempFolder, thrown } from "../../temp.ts";

const path = tempFolder();
const isRoot = process.getuid?.() === 0;
let dir = "";
let count = 0;
beforeEach(() => {
  dir = path(`state-${count++}`);
});

const STATE = {
  dev_id: 7,
  target: { name: "loop", config: { backing_file: "/disk", offset: 0 } },
  serving: { zeroCopyMin: 65536, pollUs: 0, threads: 0, limits: {}, logLevel: "info" as const },
  report: { name: "loop", dev_size: 4096, backing_file: "/disk", direct_io: true },
  tids: [[100], [101, 102]],
  affinity: [],
};
const file = (id: number): string => join(dir, `${id}.json`);
const write = (text: string): void => {
  writeState(STATE, dir);
  writeFileSync(file(7), text);
};

test("what is read is what was written, with its schema", () => {
  writeState(STATE, dir);
  expect(readState(7, dir)).toEqual({ schema: 1, ...STATE });
});

test("an older version's state has no files, and is as good", () => {
  expect(readState(7, dir)).toBeUndefined();
  writeState(STATE, dir);
  expect(readState(7, dir)?.files).toBeUndefined();
  const files = ["file 2049 12", "block 2049", "passing 2049 12"];
  writeState({ ...STATE, files }, dir);
  expect(readState(7, dir)?.files).toEqual(files);
});

test("only the owner can look: the folder is 0700, the file 0600", () => {
  writeState(STATE, dir);
  expect(statSync(dir).mode & 0o777).toBe(0o700);
  expect(statSync(file(7)).mode & 0o777).toBe(0o600);
});

test("a state is replaced as a whole, and nothing else is left", () => {
  writeState(STATE, dir);
  const before = statSync(file(7)).ino;
  writeState({ ...STATE, tids: [[1]] }, dir);
  expect(statSync(file(7)).ino).not.toBe(before);
  expect(readState(7, dir)?.tids).toEqual([[1]]);
  expect(readdirSync(dir)).toEqual(["7.json"]);
});

test("what a killed writer left behind is in nobody's way", () => {
  writeState(STATE, dir);
  writeFileSync(join(dir, `.7.${process.pid}`), "{ half a st");
  writeFileSync(join(dir, ".8.1"), "{ half a st");
  writeState({ ...STATE, tids: [[2]] }, dir);
  expect(readState(7, dir)?.tids).toEqual([[2]]);
  expect(readAllStates(dir)).toHaveLength(1);
});

test("what cannot be written is a plain error with a way on, and leaves nothing", () => {
  const failure = (): SysError => thrown(() => writeState(STATE, dir)) as SysError;
  mkdirSync(file(7), { recursive: true, mode: 0o700 });
  expect(failure()).toBeInstanceOf(SysError);
  expect(failure().message).toStartWith(`write ${file(7)}: EISDIR`);
  expect(failure().hint).toBe("the state of devices is kept there");
  expect(readdirSync(dir)).toEqual(["7.json"]);
  rmSync(dir, { recursive: true });
  writeFileSync(dir, "");
  expect(failure().message).toStartWith(`state directory ${dir}: is not a directory`);
  dir = join(dir, "below");
  expect(failure()).toBeInstanceOf(SysError);
  expect(failure().message).toMatch(RegExp(`^mkdir ${dir}: (ENOTDIR|EEXIST)`));
});

test("a removed state is gone, and removing it twice is no error", () => {
  writeState(STATE, dir);
  removeState(7, dir);
  removeState(7, dir);
  expect(readState(7, dir)).toBeUndefined();
});

test("all states are those of files with a device number for a name", () => {
  for (const id of [3, 0, 12]) writeState({ ...STATE, dev_id: id }, dir);
  for (const name of ["x.json", "1.txt", "-1.json", "1.json.bak"]) {
    writeFileSync(join(dir, name), readFileSync(file(3)));
  }
  const ids = readAllStates(dir).map(({ dev_id }) => dev_id);
  expect(ids.toSorted((a, b) => a - b)).toEqual([0, 3, 12]);
});

test("without a folder there are no states", () => {
  expect(readAllStates(dir)).toEqual([]);
  expect(readState(7, dir)).toBeUndefined();
});

describe("as good as none is a state that", () => {
  const whole = JSON.stringify({ schema: 1, ...STATE });

  test.each([
    ["is empty", ""],
    ["is torn", whole.slice(0, -10)],
    ["is no JSON", "hello"],
    ["is null", "null"],
    ["is a list", "[]"],
    ["has another schema", whole.replace('"schema":1', '"schema":2')],
    ["speaks of another device", whole.replace('"dev_id":7', '"dev_id":8')],
    ["has no target", whole.replace('"target"', '"tar"')],
    ["has no report", JSON.stringify({ schema: 1, ...STATE, report: null })],
    ["has no threads", JSON.stringify({ schema: 1, ...STATE, tids: 5 })],
  ])("%s", (_, text) => {
    write(text);
    expect(readState(7, dir)).toBeUndefined();
  });

  test("is a symbolic link", () => {
    writeState(STATE, dir);
    renameSync(file(7), path(`moved-${count}`));
    symlinkSync(path(`moved-${count}`), file(7));
    expect(readState(7, dir)).toBeUndefined();
  });

  test("is a folder", () => {
    writeState(STATE, dir);
    removeState(7, dir);
    mkdirSync(file(7));
    expect(readState(7, dir)).toBeUndefined();
  });

  test.skipIf(!isRoot)("belongs to somebody else (needs root)", () => {
    writeState(STATE, dir);
    chownSync(file(7), 1, 1);
    expect(readState(7, dir)).toBeUndefined();
  });
});

describe("a folder that others can write to is neither believed nor written to", () => {
  test.each([0o777, 0o770, 0o722])("mode %i", (mode) => {
    writeState(STATE, dir);
    chmodSync(dir, mode);
    const error = thrown(() => writeState(STATE, dir)) as SysError;
    expect(error).toBeInstanceOf(SysError);
    expect([error.subject, error.hint]).toEqual([dir, expect.stringContaining(`ls -ld ${dir}`)]);
    expect(readState(7, dir)).toBeUndefined();
    expect(readAllStates(dir)).toEqual([]);
  });

  test("a symbolic link to a good one", () => {
    const good = path(`good-${count}`);
    mkdirSync(good, { mode: 0o700 });
    symlinkSync(good, dir);
    expect(thrown(() => writeState(STATE, dir))).toBeInstanceOf(SysError);
    expect(readdirSync(good)).toEqual([]);
  });

  test("something that is no folder", () => {
    writeFileSync(dir, "");
    expect(thrown(() => writeState(STATE, dir))).toBeInstanceOf(Error);
    expect(readState(7, dir)).toBeUndefined();
  });

  test.skipIf(!isRoot)("one that belongs to somebody else (needs root)", () => {
    mkdirSync(dir, { mode: 0o700 });
    chownSync(dir, 1, 1);
    expect(thrown(() => writeState(STATE, dir))).toBeInstanceOf(SysError);
  });
});

describe("why a state file is not believed is said", () => {
  const spoiled = (change: object): string => JSON.stringify({ schema: 1, ...STATE, ...change });
  const serving = STATE.serving;
  const why = (): string => (thrown(() => loadState(7, dir)) as SysError).message;

  test.each([
    ["torn", '{ "schema": 1,', "is no JSON object"],
    ["a list", "[]", "is no JSON object"],
    ["another schema", spoiled({ schema: 9 }), "has schema 9, not 1"],
    ["another device", spoiled({ dev_id: 8 }), "speaks of device 8"],
    ["no target", spoiled({ target: 1 }), 'has no sound "target"'],
    ["no configuration", spoiled({ target: { name: "x", config: 1 } }), 'no sound "target"'],
    ["a nested report", spoiled({ report: { a: {} } }), 'no sound "report"'],
    ["threads that are none", spoiled({ tids: [[1], ["2"]] }), 'no sound "tids"'],
    ["files that are paths", spoiled({ files: ["/disk"] }), 'no sound "files"'],
    ["files that are none", spoiled({ files: {} }), 'no sound "files"'],
    ["negative CPUs", spoiled({ affinity: [[-1]] }), 'no sound "affinity"'],
    ["no service", spoiled({ serving: null }), 'no sound "serving"'],
    ["half a thread", spoiled({ serving: { ...serving, threads: 0.5 } }), 'no sound "serving"'],
    ["a limit of text", spoiled({ serving: { ...serving, limits: { logicalBlock: "x" } } }), "no"],
    ["a strange level", spoiled({ serving: { ...serving, logLevel: "loud" } }), "no sound"],
  ])("%s", (_, text, reason) => {
    write(text);
    expect(why()).toContain(reason);
    expect(why()).toStartWith(`state file ${file(7)}: `);
  });

  test("one that others may write, one that is a link, a pipe, or not there", () => {
    writeState(STATE, dir);
    chmodSync(file(7), 0o620);
    expect(why()).toContain("can be written to by others");
    renameSync(file(7), path(`linked-${count}`));
    symlinkSync(path(`linked-${count}`), file(7));
    expect(why()).toContain("is a symbolic link");
    rmSync(file(7));
    expect(why()).toContain("is not there");
    Bun.spawnSync(["mkfifo", file(7)]);
    expect(why()).toContain("is no regular file");
  });

  test("one that is too large to be ours", () => {
    write(" ".repeat((1 << 20) + 1));
    expect(why()).toContain("bytes");
  });
});
