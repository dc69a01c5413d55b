/** The system's liburing, or the copy that the executable carries: set-up, enter, register. */

import { dlopen, FFIType, ptr } from "bun:ffi";
import { existsSync, readFileSync, writeSync } from "node:fs";
import { loadLibrary } from "./c_library.ts";
import { EINVAL, ENOENT, EPERM, SysError } from "./errno.ts";
import * as libc from "./libc.ts";

/** Where `build.ts` puts the copy that serves systems without the library. */
const EMBEDDED = "/$bunfs/root/liburing.so.2";

const LIBURING = "liburing.so.2";

type Symbols = Parameters<typeof dlopen>[1];

const { symbols } = openLiburing({
  io_uring_setup: { args: [FFIType.u32, FFIType.ptr], returns: FFIType.i32 },
  io_uring_enter2: {
    args: [FFIType.i32, FFIType.u32, FFIType.u32, FFIType.u32, FFIType.ptr, FFIType.u64],
    returns: FFIType.i32,
  },
  io_uring_register: {
    args: [FFIType.i32, FFIType.u32, FFIType.ptr, FFIType.u32],
    returns: FFIType.i32,
  },
});

/** The system's library; failing that our own, out of memory that nobody else can replace. */
function openLiburing<const S extends Symbols>(symbols: S): ReturnType<typeof dlopen<S>> {
  if (loadLibrary(LIBURING)) return dlopen(LIBURING, symbols);
  if (!Bun.isStandaloneExecutable || !existsSync(EMBEDDED)) throw missing();
  const fd = libc.memfdCreate("liburing");
  writeSync(fd, readFileSync(EMBEDDED));
  const library = dlopen(`/proc/self/fd/${fd}`, symbols);
  libc.close(fd);
  return library;
}

function missing(): SysError {
  const hint = "install it (Debian: apt-get install liburing2), or use the built executable";
  return new SysError({ op: "load", errno: ENOENT, subject: LIBURING, hint });
}

/** Since 2.4 the library can be asked; an older one tells by the name of its file. */
export function liburingVersion(): string {
  try {
    const { symbols: version } = openLiburing({
      io_uring_major_version: { args: [], returns: FFIType.i32 },
      io_uring_minor_version: { args: [], returns: FFIType.i32 },
    });
    return `${version.io_uring_major_version()}.${version.io_uring_minor_version()}`;
  } catch {
    const mapped = /liburing\.so\.(\d+\.\d+)/.exec(readFileSync("/proc/self/maps", "utf8"));
    return mapped?.[1] ?? "2 (carried along)";
  }
}

/** liburing answers -errno by itself. */
export const { io_uring_enter2: enter, io_uring_register: register } = symbols;

const IORING_SETUP_CLAMP = 1 << 4;
const PARAMS_FLAGS = 2;

/** io_uring_setup with the first of `choices` that the kernel knows; answers the ring's fd. */
export function setup(entries: number, choices: readonly number[], params: Int32Array): number {
  let result = -EINVAL;
  for (const flags of choices) {
    params.fill(0);
    params[PARAMS_FLAGS] = flags | IORING_SETUP_CLAMP;
    result = symbols.io_uring_setup(entries, ptr(params));
    if (result !== -EINVAL) break;
  }
  if (result >= 0) return result;
  const facts = { op: "io_uring_setup", errno: -result };
  if (result !== -EPERM) throw new SysError(facts);
  const hint = "io_uring is switched off: sysctl kernel.io_uring_disabled=0";
  throw new SysError({ ...facts, hint });
}
