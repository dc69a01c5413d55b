/** Every constant that bears a kernel's or libc's name, wherever it stands, has their value. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as libc from "../ffi/libc.ts";
import { askCompiler, newestKernelHeaders } from "./c_compiler.ts";

const ROOT = join(import.meta.dir, "..");
const headers = await newestKernelHeaders();
const why = "missing" in headers ? ` (${headers.missing})` : "";
const include = "include" in headers ? headers.include : undefined;
const testAbi = test.skipIf("missing" in headers);

/** Names that come from a header, by how they begin; the two kinds do not go into one program. */
const KERNEL_NAMES = /^(IORING_|IOSQE_|RWF_|BLK[A-Z]|STATX_|FALLOC_|PR_)/;
const LIBC_NAMES = /^((O|PROT|MAP|F|FLOCK|AT|SYS|CLONE|MS|MNT)_|POLL)/;
const KERNEL_HEADERS = ["linux/io_uring.h", "linux/fs.h", "linux/falloc.h", "linux/stat.h"];
const LIBC_HEADERS = ["fcntl.h", "poll.h", "sched.h", "sys/mman.h", "sys/mount.h", "sys/syscall.h"];

/** Names that look like a header's and are ours: what they mean there. */
const MEANINGS: Record<string, string> = {
  FALLOC_FL_PUNCH_HOLE_KEEP_SIZE: "FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE",
  FLOCK_SIZE: "sizeof(struct flock)",
  STATX_SIZE: "sizeof(struct statx)",
  STATX_MASK_AT: "offsetof(struct statx, stx_mask)",
  STATX_DIO_OFFSET_ALIGN_AT: "offsetof(struct statx, stx_dio_offset_align)",
  SYS_PIDFD_OPEN: "SYS_pidfd_open",
};

/** The number that a literal such as `1 << 8`, `0x10` or `0o2` stands for; NaN for anything else. */
function literal(text: string): number {
  const shifted = /^(\d+) << (\d+)$/.exec(text);
  if (shifted !== null) return Number(shifted[1]) * 2 ** Number(shifted[2]);
  return Number(text.replaceAll("_", ""));
}

/** The constants of a source text: by name, with their value. */
function constantsOf(source: string): [name: string, value: number][] {
  const found = source.matchAll(/^(?:export )?const ([A-Z][A-Z0-9_]+) = ([^;]+);/gm);
  return [...found]
    .map(([, name, text]): [string, number] => [name!, literal(text!)])
    .filter(([, value]) => !Number.isNaN(value));
}

function allConstants(): Map<string, number> {
  const constants = new Map<string, number>();
  for (const area of ["ffi", "src", "targets"]) {
    for (const file of new Bun.Glob(`${area}/**/*.ts`).scanSync({ cwd: ROOT })) {
      const source = readFileSync(join(ROOT, file), "utf8");
      for (const [name, value] of constantsOf(source)) constants.set(name, value);
    }
  }
  for (const [name, value] of Object.entries(libc)) {
    if (typeof value === "number") constants.set(name, value);
  }
  return constants;
}

function compare(names: RegExp, headerNames: string[], atLeast: number): void {
  const ours = new Map([...allConstants()].filter(([name]) => names.test(name)));
  const questions = new Map([...ours.keys()].map((name) => [name, MEANINGS[name] ?? name]));
  const theirs = askCompiler(headerNames, questions, include);
  const answers = [...theirs].map(([name, value]) => [name, Number(value)]);
  expect(Object.fromEntries(ours)).toEqual(Object.fromEntries(answers));
  expect(theirs.size).toBeGreaterThanOrEqual(atLeast);
}

testAbi(`the constants of the kernel's headers are right${why}`, () => {
  compare(KERNEL_NAMES, [...KERNEL_HEADERS, "linux/prctl.h"], 25);
});

testAbi(`the constants of the C library's headers are right${why}`, () => {
  compare(LIBC_NAMES, LIBC_HEADERS, 20);
});

testAbi(`an open file's lock is laid out as image_lock.ts writes it${why}`, () => {
  const members = ["l_type", "l_whence", "l_start", "l_len", "l_pid"];
  const questions = new Map(
    members.map((member) => [member, `offsetof(struct flock, ${member})`] as const),
  );
  const found = askCompiler(["fcntl.h"], questions);
  expect([...found.values()]).toEqual([0n, 2n, 8n, 16n, 24n]);
});

test("constants are found in a source text, and what is no plain number is left out", () => {
  const source = [
    "export const IORING_OP_READ = 22;",
    "const PROT_EXEC = 1 << 2;",
    "const O_EXCL = 0o200;",
    "const BIG = 30_000;",
    "const PATH = somewhere();",
    "  const F_INNER = 1;",
  ].join("\n");
  expect(constantsOf(source)).toEqual([
    ["IORING_OP_READ", 22],
    ["PROT_EXEC", 4],
    ["O_EXCL", 128],
    ["BIG", 30_000],
  ]);
});
