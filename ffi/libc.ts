/** The C library's system calls; each throws SysError, with errno read in one place. */

import { dlopen, FFIType, type Pointer, ptr, read } from "bun:ffi";
import { SysError } from "./errno.ts";
import { machine } from "./machine.ts";

const LIBRARIES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];

const { symbols: c } = openFirst(LIBRARIES, {
  __errno_location: { args: [], returns: FFIType.ptr },
  open: { args: [FFIType.cstring, FFIType.i32, FFIType.u32], returns: FFIType.i32 },
  close: { args: [FFIType.i32], returns: FFIType.i32 },
  dup2: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  ioctl: { args: [FFIType.i32, FFIType.u64, FFIType.ptr], returns: FFIType.i32 },
  fcntl: { args: [FFIType.i32, FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
  fallocate: {
    args: [FFIType.i32, FFIType.i32, FFIType.i64, FFIType.i64],
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

/** The first of several libraries that is there; the last one's error when none is. */
function openFirst<const S extends Symbols>(
  names: readonly string[],
  symbols: S,
): ReturnType<typeof dlopen<S>> {
  let failure: unknown;
  for (const name of names) {
    try {
      return dlopen(name, symbols);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

// The address is the thread's own and never changes; every thread loads this module anew.
const errnoAddress = c.__errno_location() as Pointer;

function check(result: number | bigint, op: string, subject?: string): number {
  if (result !== -1) return Number(result);
  const errno = read.i32(errnoAddress, 0);
  throw new SysError(subject === undefined ? { op, errno } : { op, errno, subject });
}

const RTLD_NOW = 2;
const { symbols: loader } = openFirst(["libdl.so.2", ...LIBRARIES], {
  dlopen: { args: [FFIType.cstring, FFIType.i32], returns: FFIType.ptr },
});

/**
 * Loads a library from where the system keeps them; false when it is not there. Bun's own `dlopen`
 * would go on to look in the current directory, where anybody may have put one. Names of the C
 * library are safe from that: it is mapped already.
 */
export function loadLibrary(name: string): boolean {
  return loader.dlopen(name, RTLD_NOW) !== null;
}

export const O_RDONLY = 0o0;
export const O_RDWR = 0o2;
export const O_EXCL = 0o200;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;
export const { O_DIRECT, O_NOFOLLOW } = machine;

export function open(path: string, flags: number): number {
  return check(c.open(path, flags | O_CLOEXEC, 0), "open", path);
}

export function close(fd: number): void {
  check(c.close(fd), "close");
}

/** Makes `to` another name of what `from` is. */
export function dup2(from: number, to: number): void {
  check(c.dup2(from, to), "dup2");
}

export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_ANONYMOUS = 0x20;
export const MAP_POPULATE = 0x8000;

/** Maps `length` bytes and answers their address. `fd` is -1 for anonymous memory. */
export function mmap(
  length: number,
  prot: number,
  flags: number,
  fd: number,
  offset: number,
): number {
  return check(c.mmap(0, length, prot, flags, fd, offset), "mmap");
}

export function munmap(address: number, length: number): void {
  check(c.munmap(address, length), "munmap");
}

const MADV_NOHUGEPAGE = 15;

/** Pages are backed one by one. A kernel without huge pages answers EINVAL, which is as good. */
export function adviseSmallPages(address: number, length: number): void {
  c.madvise(address, length, MADV_NOHUGEPAGE);
}

const MADV_DONTNEED = 4;

/** Forgets pages of a private mapping; what was written to them is lost, and read anew. */
export function dropPages(address: number, length: number): void {
  c.madvise(address, length, MADV_DONTNEED);
}

export function memset(address: number, byte: number, length: number): void {
  c.memset(address, byte, length);
}

export function memcpy(to: number, from: number, length: number): void {
  c.memcpy(to, from, length);
}

/** ioctl(2) with a buffer that the kernel reads or fills. */
export function ioctl(fd: number, request: number, buffer: Uint8Array, name: string): number {
  return check(c.ioctl(fd, request, ptr(buffer)), name);
}

export function fcntl(fd: number, command: number, buffer: Uint8Array, name: string): number {
  return check(c.fcntl(fd, command, ptr(buffer)), name);
}

const F_SETFL = 4;

/** Clears O_DIRECT, O_APPEND, O_NONBLOCK and O_NOATIME of an open file. */
export function clearFileFlags(fd: number): void {
  check(c.fcntl(fd, F_SETFL, null), "fcntl F_SETFL");
}

export function fallocate(fd: number, mode: number, offset: number, length: number): void {
  check(c.fallocate(fd, mode, offset, length), "fallocate");
}

export function eventfd(initial: number): number {
  return check(c.eventfd(initial, 0o2000000), "eventfd");
}

const MFD_CLOEXEC = 1;

/** A file without a name in any folder. */
export function memfdCreate(name: string): number {
  const text = Buffer.from(`${name}\0`);
  const fd = c.syscall(machine.SYS_memfd_create, ptr(text), MFD_CLOEXEC, 0, 0, 0);
  return check(fd, "memfd_create");
}

/** The calling thread's id. */
export function gettid(): number {
  return Number(c.syscall(machine.SYS_gettid, 0, 0, 0, 0, 0));
}

/** 4 KiB on x86-64; arm64 has kernels with 16 and 64 KiB too. */
export function pageSize(): number {
  return c.getpagesize();
}

export const PR_SET_PDEATHSIG = 1;
export const PR_SET_NAME = 15;
export const PR_SET_IO_FLUSHER = 57;

export function prctl(option: number, argument: number, name: string): void {
  check(c.prctl(option, argument, 0, 0, 0), name);
}

/** What `ps -T`, `top -H` and /proc show for the calling thread: 15 bytes. */
export function setThreadName(name: string): void {
  const bytes = Buffer.alloc(4096);
  bytes.write(name.slice(0, 15));
  prctl(PR_SET_NAME, ptr(bytes), "prctl PR_SET_NAME");
}

/** Locks pages as they are touched, without touching them (MCL_CURRENT | FUTURE | ONFAULT). */
export function mlockall(): void {
  check(c.mlockall(7), "mlockall");
}

/** Fills `mask`, a cpu_set_t, with the CPUs that the calling thread may use: none that is off line. */
export function schedGetaffinity(mask: Uint8Array): void {
  check(c.sched_getaffinity(0, mask.byteLength, ptr(mask)), "sched_getaffinity");
}

/** Binds a thread, 0 being the calling one, to `mask`, a cpu_set_t of any length. */
export function schedSetaffinity(mask: Uint8Array, tid = 0): void {
  check(c.sched_setaffinity(tid, mask.byteLength, ptr(mask)), "sched_setaffinity");
}

/** Also of what was opened with O_PATH, which fchmod(2) refuses. */
export function fchmod(fd: number, mode: number): void {
  check(c.chmod(`/proc/self/fd/${fd}`, mode), "fchmod");
}

/** Of what `fd` is, also when it was opened with O_PATH. */
export function fchown(fd: number, uid: number, gid: number): void {
  check(c.fchownat(fd, "", uid, gid, AT_EMPTY_PATH), "fchownat");
}

const AT_EMPTY_PATH = 0x1000;
const STATX_SIZE = 256;
const EMPTY_STRING = Buffer.alloc(4096);

/** struct statx of an open file, for the members named in `mask`. */
export function statx(fd: number, mask: number): DataView {
  const buffer = new Uint8Array(new ArrayBuffer(STATX_SIZE));
  const path = ptr(EMPTY_STRING);
  check(c.syscall(machine.SYS_statx, fd, path, AT_EMPTY_PATH, mask, ptr(buffer)), "statx");
  return new DataView(buffer.buffer);
}

const POLLIN = 1;

/** A descriptor that stays with this very process, even if its number is used again. */
export function pidfdOpen(pid: number): number {
  return check(c.syscall(machine.SYS_pidfd_open, pid, 0, 0, 0, 0), "pidfd_open", String(pid));
}

/** Waits until `fd` is readable; false when `timeoutMs` passed. */
export function pollIn(fd: number, timeoutMs: number): boolean {
  const entry = Buffer.alloc(8);
  entry.writeInt32LE(fd, 0);
  entry.writeInt16LE(POLLIN, 4);
  return check(c.poll(ptr(entry), 1, timeoutMs), "poll") > 0;
}

const CLONE_NEWNS = 0x00020000;
const CLONE_FS = 0x200;
const MS_REC = 0x4000;
const MS_PRIVATE = 1 << 18;
const MNT_DETACH = 2;

/** A mount namespace of its own for the calling thread, and for what it starts afterwards. */
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/** The user at the other end of a unix socket, as of when it was connected. */
export function peerUid(fd: number): number {
  const ucred = new Int32Array(new ArrayBuffer(12)); // pid, uid, gid
  const length = Int32Array.of(ucred.byteLength);
  const result = c.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ptr(ucred), ptr(length));
  check(result, "getsockopt SO_PEERCRED");
  return ucred[1]!;
}

export function unshareMounts(): void {
  check(c.unshare(CLONE_NEWNS), "unshare", "CLONE_NEWNS");
}

/**
 * The calling thread goes to the mount namespace that `fd` stands for; threads that it has started
 * meanwhile stay where they are.
 */
export function enterMounts(fd: number): void {
  // EINVAL while a thread that was started meanwhile shares root and directory with us.
  check(c.unshare(CLONE_FS), "unshare", "CLONE_FS");
  check(c.setns(fd, CLONE_NEWNS), "setns", "CLONE_NEWNS");
}

export function chroot(path: string): void {
  check(c.chroot(path), "chroot", path);
}

/** Nothing mounted or unmounted here reaches any other namespace. */
export function makeMountsPrivate(): void {
  check(c.mount("none", "/", null, MS_REC | MS_PRIVATE, null), "mount", "/");
}

export function detachMount(path: string): void {
  check(c.umount2(path, MNT_DETACH), "umount2", path);
}

export function socket(domain: number, type: number): number {
  return check(c.socket(domain, type, 0), "socket");
}

/** `address`: the whole struct sockaddr_*; `name` is how a person would call it. */
export function connect(fd: number, address: Uint8Array, name: string): void {
  check(c.connect(fd, ptr(address), address.byteLength), "connect", name);
}

export function send(fd: number, bytes: Uint8Array, flags: number): void {
  check(c.send(fd, ptr(bytes), bytes.byteLength, flags), "send");
}
