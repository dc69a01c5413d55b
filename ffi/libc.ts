/** The C library's system calls; each throws SysError. */

import { ptr } from "bun:ffi";
import { constants } from "node:os";
import { c, check } from "./c_library.ts";
import { EAGAIN, EINTR, SysError } from "./errno.ts";
import { machine } from "./machine.ts";

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
/** Memory that is counted when it is used, not when it is mapped. */
export const MAP_NORESERVE = 0x4000;
export const MAP_FIXED_NOREPLACE = 0x100000;
export const MAP_POPULATE = 0x8000;

/** Maps `length` bytes and answers their address. `fd` is -1 for anonymous memory. */
export function mmap(
  length: number,
  prot: number,
  flags: number,
  fd: number,
  offset: number,
  address = 0,
): number {
  return check(c.mmap(address, length, prot, flags, fd, offset), "mmap");
}

export function munmap(address: number, length: number): void {
  check(c.munmap(address, length), "munmap");
}

const MADV_NOHUGEPAGE = 15;

/** Pages are backed one by one. A kernel without huge pages answers EINVAL, which is as good. */
export function adviseSmallPages(address: number, length: number): void {
  c.madvise(address, length, MADV_NOHUGEPAGE);
}

const MADV_POPULATE_WRITE = 23;

/** Backs all pages now. Linux before 5.14 answers EINVAL: then each is when it is touched. */
export function touchPages(address: number, length: number): void {
  c.madvise(address, length, MADV_POPULATE_WRITE);
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

const LOCK_EX_NB = 2 | 4;

/** flock(2), until the file is closed; false where somebody else has it. */
export function tryLock(fd: number): boolean {
  try {
    check(c.flock(fd, LOCK_EX_NB), "flock");
    return true;
  } catch (error) {
    if (error instanceof SysError && error.errno === EAGAIN) return false;
    throw error;
  }
}

export function fallocate(fd: number, mode: number, offset: number, length: number): void {
  check(c.fallocate(fd, mode, offset, length), "fallocate");
}

const POSIX_FADV_RANDOM = 1;

/** Nothing is read into the page cache but what is asked for, in pages of their own. */
export function readNothingAhead(fd: number): void {
  c.posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); // advice, as below
}

const POSIX_FADV_DONTNEED = 4;

/** Takes a file's clean pages out of the page cache; what is dirty is on its way to the disk. */
export function dropCached(fd: number): void {
  c.posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); // advice: a file that cannot is none the worse
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
const PR_SET_NAME = 15;
const PR_SET_IO_FLUSHER = 57;

export function prctl(option: number, argument: number, name: string): void {
  check(c.prctl(option, argument, 0, 0, 0), name);
}

/** Of the calling thread, and of all that it starts: neither clone(2) nor execve(2) ends it. */
export function setIoFlusher(): void {
  prctl(PR_SET_IO_FLUSHER, 1, "prctl PR_SET_IO_FLUSHER");
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

export const RLIMIT_CPU = 0;
export const RLIMIT_FSIZE = 1;
const RLIM_INFINITY = 2n ** 64n - 1n;

/** Lifts a limit of this process; for whoever may not do that, as far as it goes. */
export function raiseLimit(resource: number): void {
  const limit = new BigUint64Array(new ArrayBuffer(16)); // struct rlimit: soft, hard
  limit.fill(RLIM_INFINITY);
  if (c.setrlimit(resource, ptr(limit)) === 0) return;
  check(c.getrlimit(resource, ptr(limit)), "getrlimit");
  limit[0] = limit[1]!;
  check(c.setrlimit(resource, ptr(limit)), "setrlimit");
}

/** Fills `mask`, a cpu_set_t, with the CPUs that the calling thread may use, of those on line. */
export function schedGetaffinity(mask: Uint8Array): void {
  check(c.sched_getaffinity(0, mask.byteLength, ptr(mask)), "sched_getaffinity");
}

/** Binds a thread, 0 being the calling one, to `mask`, a cpu_set_t of any length. */
export function schedSetaffinity(mask: Uint8Array, tid = 0): void {
  check(c.sched_setaffinity(tid, mask.byteLength, ptr(mask)), "sched_setaffinity");
}

const SCHED_RR = 2;

/**
 * The calling thread, and kernel threads that it starts, go before all that is not real time; and
 * may use a part of the memory that the kernel keeps back. (musl's own function does nothing.)
 */
export function goFirst(): void {
  const lowest = new Int32Array([1]);
  const done = c.syscall(machine.SYS_sched_setscheduler, 0, SCHED_RR, ptr(lowest), 0, 0);
  check(done, "sched_setscheduler");
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

/** SIGKILL for the process of a `pidfdOpen`; throws ESRCH when it has ended. */
export function pidfdKill(fd: number): void {
  const { SIGKILL } = constants.signals;
  check(c.syscall(machine.SYS_pidfd_send_signal, fd, SIGKILL, 0, 0, 0), "pidfd_send_signal");
}

const POLLIN = 1;
/** For `pollIn`. */
export const FOR_EVER = -1;

/** A descriptor that stays with this very process, even if its number is used again. */
export function pidfdOpen(pid: number): number {
  return check(c.syscall(machine.SYS_pidfd_open, pid, 0, 0, 0, 0), "pidfd_open", String(pid));
}

/** Waits until `fd` is readable; false when `timeoutMs` passed. A signal is no end of it. */
export function pollIn(fd: number, timeoutMs: number): boolean {
  const entry = Buffer.alloc(8);
  entry.writeInt32LE(fd, 0);
  entry.writeInt16LE(POLLIN, 4);
  const end = performance.now() + timeoutMs;
  for (let left = timeoutMs; ; left = Math.max(Math.ceil(end - performance.now()), 0)) {
    try {
      return check(c.poll(ptr(entry), 1, timeoutMs < 0 ? FOR_EVER : left), "poll") > 0;
    } catch (error) {
      if (!(error instanceof SysError) || error.errno !== EINTR) throw error;
    }
  }
}

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
