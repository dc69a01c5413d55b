/** The functions of the C library, by name, and errno, which is read in this one place. */

import { dlopen, FFIType, type Pointer, read } from "bun:ffi";
import { SysError } from "./errno.ts";

/**
 * Names that every Linux process has mapped already, so that no file is looked for: glibc's, which
 * the runtime is linked with; and musl takes whatever begins with "libc." or "libdl." for itself.
 * Of a name that is not mapped, Bun's `dlopen` would go on to look in the current directory, where
 * anybody may have put one. So there is no second name to try.
 */
type Mapped = "libc.so.6" | "libdl.so.2";

/** bun:ffi compiles what goes between; "memory" is address space: 2.3 GB of it are too few. */
const NO_JIT =
  "code cannot be made at run time here: " +
  "ulimit -v (2.4 GB at least), MemoryDenyWriteExecute=, or BUN_JSC_useJIT";

export const { symbols: c } = openMapped("libc.so.6", {
  __errno_location: { args: [], returns: FFIType.ptr },
  open: { args: [FFIType.cstring, FFIType.i32, FFIType.u32], returns: FFIType.i32 },
  close: { args: [FFIType.i32], returns: FFIType.i32 },
  dup2: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  ioctl: { args: [FFIType.i32, FFIType.u64, FFIType.ptr], returns: FFIType.i32 },
  fcntl: { args: [FFIType.i32, FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
  flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  fallocate: {
    args: [FFIType.i32, FFIType.i32, FFIType.i64, FFIType.i64],
    returns: FFIType.i32,
  },
  posix_fadvise: {
    args: [FFIType.i32, FFIType.i64, FFIType.i64, FFIType.i32],
    returns: FFIType.i32,
  },
  mmap: {
    args: [FFIType.u64, FFIType.u64, FFIType.i32, FFIType.i32, FFIType.i32, FFIType.i64],
    returns: FFIType.i64_fast,
  },
  munmap: { args: [FFIType.u64, FFIType.u64], returns: FFIType.i32 },
  madvise: { args: [FFIType.u64, FFIType.u64, FFIType.i32], returns: FFIType.i32 },
  mlockall: { args: [FFIType.i32], returns: FFIType.i32 },
  chmod: { args: [FFIType.cstring, FFIType.u32], returns: FFIType.i32 },
  fchownat: {
    args: [FFIType.i32, FFIType.cstring, FFIType.u32, FFIType.u32, FFIType.i32],
    returns: FFIType.i32,
  },
  memset: { args: [FFIType.u64, FFIType.i32, FFIType.u64], returns: FFIType.ptr },
  memcpy: { args: [FFIType.u64, FFIType.u64, FFIType.u64], returns: FFIType.ptr },
  eventfd: { args: [FFIType.u32, FFIType.i32], returns: FFIType.i32 },
  getsockopt: {
    args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.ptr],
    returns: FFIType.i32,
  },
  getpagesize: { args: [], returns: FFIType.i32 },
  poll: { args: [FFIType.ptr, FFIType.u64, FFIType.i32], returns: FFIType.i32 },
  prctl: {
    args: [FFIType.i32, FFIType.u64, FFIType.u64, FFIType.u64, FFIType.u64],
    returns: FFIType.i32,
  },
  getrlimit: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
  setrlimit: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
  sched_getaffinity: { args: [FFIType.i32, FFIType.u64, FFIType.ptr], returns: FFIType.i32 },
  sched_setaffinity: { args: [FFIType.i32, FFIType.u64, FFIType.ptr], returns: FFIType.i32 },
  syscall: {
    args: [FFIType.i64, FFIType.i64, FFIType.i64, FFIType.i64, FFIType.i64, FFIType.i64],
    returns: FFIType.i64_fast,
  },
  chroot: { args: [FFIType.cstring], returns: FFIType.i32 },
  setns: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  unshare: { args: [FFIType.i32], returns: FFIType.i32 },
  mount: {
    args: [FFIType.cstring, FFIType.cstring, FFIType.ptr, FFIType.u64, FFIType.ptr],
    returns: FFIType.i32,
  },
  umount2: { args: [FFIType.cstring, FFIType.i32], returns: FFIType.i32 },
  socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  connect: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  send: {
    args: [FFIType.i32, FFIType.ptr, FFIType.u64, FFIType.i32],
    returns: FFIType.i64_fast,
  },
});

type Symbols = Parameters<typeof dlopen>[1];

function openMapped<const S extends Symbols>(
  name: Mapped,
  symbols: S,
): ReturnType<typeof dlopen<S>> {
  try {
    return dlopen(name, symbols);
  } catch (error) {
    const facts = { op: "load", errno: 0, subject: name, reason: (error as Error).message };
    throw new SysError(facts.reason.includes("JIT") ? { ...facts, hint: NO_JIT } : facts);
  }
}

// The address is the thread's own and never changes; every thread loads this module anew.
const errnoAddress = c.__errno_location() as Pointer;

/** A call's result, or its errno thrown. `subject`: what it was tried on. */
export function check(result: number | bigint, op: string, subject?: string): number {
  if (result !== -1) return Number(result);
  const errno = read.i32(errnoAddress, 0);
  throw new SysError(subject === undefined ? { op, errno } : { op, errno, subject });
}

const RTLD_NOW = 2;
const { symbols: loader } = openMapped("libdl.so.2", {
  dlopen: { args: [FFIType.cstring, FFIType.i32], returns: FFIType.ptr },
});

/**
 * Loads a library from where the system keeps them; false when it is not there. From then on it is
 * mapped, and Bun's own `dlopen` finds it by its name.
 */
export function loadLibrary(name: string): boolean {
  return loader.dlopen(name, RTLD_NOW) !== null;
}
