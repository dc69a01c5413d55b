/** Every constant that bears a kernel's or libc's name, wherever it stands, has their value. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as libc from "../ffi/libc.ts";
import { MACHINES } from "../ffi/machine.ts";
import { askCompiler, type Layouts, layoutsOf, newestKernelHeaders } from "./c_compiler.ts";

const ROOT = join(import.meta.dir, "..");
const headers = await newestKernelHeaders();
const why = "missing" in headers ? ` (${headers.missing})` : "";
const include = "include" in headers ? headers.include : undefined;
const testAbi = test.skipIf("missing" in headers);

/** Names that come from a header, by how they begin; the two kinds do not go into one program. */
const KERNEL_NAMES = /^(IORING_|IOSQE_|IOU_|RWF_|BLK[A-Z]|STATX_|FALLOC_|PR_)/;
const LIBC_NAMES =
  /^((O|PROT|MAP|MADV|MFD|F|FLOCK|LOCK|POSIX_FADV|AT|SYS|CLONE|SCHED|RLIMIT|MS|MNT|RTLD|AF|SOL?|SOCK|MSG)_|POLL)/;
const KERNEL_HEADERS = ["linux/io_uring.h", "linux/fs.h", "linux/falloc.h", "linux/stat.h"];
const LIBC_HEADERS = [
  ...["dlfcn.h", "fcntl.h", "poll.h", "sched.h", "sys/file.h", "sys/mman.h", "sys/mount.h"],
  ...["sys/resource.h", "sys/socket.h", "sys/syscall.h"],
];

/** Names that look like a header's and are ours: what they mean there. */
const MEANINGS: Record<string, string> = {
  FALLOC_FL_PUNCH_HOLE_KEEP_SIZE: "FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE",
  LOCK_EX_NB: "LOCK_EX | LOCK_NB",
  FLOCK_SIZE: "sizeof(struct flock)",
  STATX_SIZE: "sizeof(struct statx)",
  STATX_MASK_AT: "offsetof(struct statx, stx_mask)",
  STATX_DIO_MEM_ALIGN_AT: "offsetof(struct statx, stx_dio_mem_align)",
  STATX_DIO_OFFSET_ALIGN_AT: "offsetof(struct statx, stx_dio_offset_align)",
};

/** What a literal such as `1 << 8`, `2 | 4`, `0x10` or `0o2` stands for; NaN for anything else. */
function literal(text: string): number {
  if (/^\d+ \| \d+$/.test(text)) return Number(text.split(" ")[0]) | Number(text.split(" ")[2]);
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
  compare(LIBC_NAMES, LIBC_HEADERS, 40);
});

/** Structs that the sources fill or read by offset, as they have them in mind. */
const LAYOUTS: Layouts = {
  "struct flock": { l_type: 0, l_whence: 2, l_start: 8, l_len: 16, l_pid: 24 },
  "struct pollfd": { fd: 0, events: 4, revents: 6 },
  "struct io_uring_params": { sq_entries: 0, cq_entries: 4, flags: 8, sq_off: 40, cq_off: 80 },
  "struct io_sqring_offsets": { head: 0, tail: 4, ring_mask: 8, array: 24 },
  "struct io_cqring_offsets": { head: 0, tail: 4, ring_mask: 8, cqes: 20 },
  "struct io_uring_getevents_arg": { sigmask: 0, sigmask_sz: 8, ts: 16 },
  "struct __kernel_timespec": { tv_sec: 0, tv_nsec: 8 },
  "struct io_uring_rsrc_register": { nr: 0, flags: 4, resv2: 8, data: 16, tags: 24 },
  "struct io_uring_buf_reg": { ring_addr: 0, ring_entries: 8, bgid: 12, flags: 14 },
  "struct io_uring_buf": { addr: 0, len: 8, bid: 12, resv: 14 },
  "struct io_uring_buf_ring": { tail: 14 },
};

testAbi(`structs are laid out as they are filled${why}`, () => {
  const found = layoutsOf(LAYOUTS, ["fcntl.h", "poll.h", "linux/io_uring.h"], include);
  expect(found).toEqual(LAYOUTS);
});

/** Our names of processors, and the kernel's. */
test.skipIf("missing" in headers).each([
  ["x64", "x86"],
  ["arm64", "arm64"],
] as const)(`what differs between processors is right for %s${why}`, (ours, theirs) => {
  const processor = join(include!, "../lib/linux/uapi", theirs);
  const names = Object.keys(MACHINES[ours]);
  const questions = new Map(names.map((name) => [name, name.replace("SYS_", "__NR_")]));
  const answers = askCompiler(["asm/unistd.h", "asm/fcntl.h"], questions, processor, include);
  expect(MACHINES[ours]).toEqual(
    Object.fromEntries([...answers].map(([name, value]) => [name, Number(value)])) as never,
  );
});

test("constants are found in a source text, and what is no plain number is left out", () => {
  const source = [
    "export const IORING_OP_READ = 22;",
    "const PROT_EXEC = 1 << 2;",
    "const O_EXCL = 0o200;",
    "const LOCK_EX_NB = 2 | 4;",
    "const BIG = 30_000;",
    "const PATH = somewhere();",
    "  const F_INNER = 1;",
  ].join("\n");
  expect(constantsOf(source)).toEqual([
    ["IORING_OP_READ", 22],
    ["PROT_EXEC", 4],
    ["O_EXCL", 128],
    ["LOCK_EX_NB", 6],
    ["BIG", 30_000],
  ]);
});
