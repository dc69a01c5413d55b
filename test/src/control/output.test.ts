/** src/control/output.ts: text gets to where a name leads, and nothing else is replaced by it. */

import { expect, test } from "bun:test";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { SysError } from "../../../ffi/errno.ts";
import { replaceFile, writeOutput } from "../../../src/control/output.ts";
import { tempFolder, thrown } from "../../temp.ts";

const path = tempFolder();
const MODULE = join(import.meta.dir, "../../../src/control/output.ts");
let made = 0;

/** A folder of its own for each test. */
function folder(): string {
  const dir = path(String(made++));
  mkdirSync(dir);
  return dir;
}

test("a file is made, and replaced as a whole", () => {
  const dir = folder();
  writeOutput(`${dir}/a`, "one");
  const inode = statSync(`${dir}/a`).ino;
  chmodSync(`${dir}/a`, 0o600);
  writeOutput(`${dir}/a`, "two");
  expect(readFileSync(`${dir}/a`, "utf8")).toBe("two");
  expect(statSync(`${dir}/a`).ino).not.toBe(inode);
  expect(readdirSync(dir)).toEqual(["a"]);
});

test("a link stays one: what it leads to is replaced, or made", () => {
  const dir = folder();
  mkdirSync(`${dir}/there`);
  symlinkSync("there/file", `${dir}/second`);
  symlinkSync("second", `${dir}/first`);
  for (const text of ["made", "replaced"]) {
    writeOutput(`${dir}/first`, text);
    expect(readFileSync(`${dir}/there/file`, "utf8")).toBe(text);
    expect(lstatSync(`${dir}/first`).isSymbolicLink()).toBe(true);
    expect(lstatSync(`${dir}/second`).isSymbolicLink()).toBe(true);
  }
  expect(readdirSync(`${dir}/there`)).toEqual(["file"]);
  expect(readdirSync(dir).toSorted()).toEqual(["first", "second", "there"]);
  symlinkSync("round", `${dir}/round`);
  expect(String(thrown(() => writeOutput(`${dir}/round`, "x")))).toContain("round: ELOOP");
});

test("a device is written to, and stays what it is", () => {
  const dir = folder();
  const before = statSync("/dev/null").rdev;
  symlinkSync("/dev/null", `${dir}/null`);
  writeOutput(`${dir}/null`, "nothing");
  symlinkSync("/dev/full", `${dir}/full`);
  const error = thrown(() => writeOutput(`${dir}/full`, "nothing")) as SysError;
  expect(error).toBeInstanceOf(SysError);
  expect(error.message).toStartWith(`write ${dir}/full: ENOSPC`);
  for (const name of ["/dev/null", "/dev/full"]) {
    expect(lstatSync(name).isCharacterDevice()).toBe(true);
  }
  expect(statSync("/dev/null").rdev).toBe(before);
  expect(readdirSync(dir).toSorted()).toEqual(["full", "null"]);
});

test("a pipe takes it, and stays one", async () => {
  const dir = folder();
  Bun.spawnSync(["mkfifo", `${dir}/pipe`]);
  const reader = Bun.spawn(["cat", `${dir}/pipe`], { stdout: "pipe" });
  writeOutput(`${dir}/pipe`, "through");
  expect(await reader.stdout.text()).toBe("through");
  expect(lstatSync(`${dir}/pipe`).isFIFO()).toBe(true);
});

test("a descriptor's file is added to, not replaced", () => {
  const dir = folder();
  writeFileSync(`${dir}/log`, "before\n");
  const inode = statSync(`${dir}/log`).ino;
  const script = `(await import(${JSON.stringify(MODULE)})).writeOutput(process.argv[1], "after\\n")`;
  for (const name of ["/dev/fd/7", "/proc/self/fd/7", "/dev/stdout"]) {
    const shell = `exec 7>> ${dir}/log; "$0" -e "$1" ${name} && echo more >&7`;
    const { stderr, stdout } = Bun.spawnSync(["sh", "-c", shell, process.execPath, script]);
    expect(stderr.toString()).toBe("");
    expect(stdout.toString()).toBe(name === "/dev/stdout" ? "after\n" : "");
  }
  const added = "after\nmore\nafter\nmore\nmore\n";
  expect(readFileSync(`${dir}/log`, "utf8")).toBe(`before\n${added}`);
  expect(statSync(`${dir}/log`).ino).toBe(inode);
});

test("of what fails nothing is left, and the error says what and why", () => {
  const dir = folder();
  mkdirSync(`${dir}/dir`);
  for (const [name, why] of [
    ["/nowhere/a", "write /nowhere/a: ENOENT"],
    [`${dir}/dir`, `open ${dir}/dir: EISDIR`],
  ] as const) {
    expect(String(thrown(() => writeOutput(name, "x")))).toContain(why);
  }
  const how = { aside: `${dir}/.aside`, mode: 0o600, hint: "make room" };
  const error = thrown(() => replaceFile(`${dir}/dir`, "x", how)) as SysError;
  expect([error.op, error.subject, error.hint]).toEqual(["write", `${dir}/dir`, "make room"]);
  expect(readdirSync(dir)).toEqual(["dir"]);
  rmSync(`${dir}/dir`, { recursive: true });
  replaceFile(`${dir}/dir`, "x", how);
  expect(statSync(`${dir}/dir`).mode & 0o777).toBe(0o600);
});
