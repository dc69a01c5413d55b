/** Processes that serve devices: whether one still runs, what ends it, what it needs no more. */

import { existsSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import * as libc from "../../ffi/libc.ts";

/** A descriptor of the process, readable once it has ended; -1 when there is no such process. */
export function openProcess(pid: number): number {
  if (pid <= 0) return -1;
  try {
    return libc.pidfdOpen(pid);
  } catch {
    return -1;
  }
}

/** A process number comes again; the same thread in the same process is not to be feared. */
export function hasThread(pid: number, tid: number): boolean {
  return existsSync(`/proc/${pid}/task/${tid}`);
}

/** PF_EXITING of include/linux/sched.h */
const PF_EXITING = 4;
const SIGKILL_BIT = 1n << 8n;
/** Of the fields of /proc/PID/stat, which proc(5) counts from 1, those from the third on. */
const STAT_STATE = 0;
const STAT_FLAGS = 6;
const STAT_STARTTIME = 19;

/** Before them stands the name, in brackets, which may hold anything. Throws where nobody is. */
function statOf(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** Its number and when it started, which together no other process has; undefined: it is gone. */
export function processIdentity(pid: number): string | undefined {
  try {
    return `${pid} ${statOf(pid)[STAT_STARTTIME]}`;
  } catch {
    return undefined;
  }
}

/** Whether it will go on serving: it is there, and neither dead nor killed. */
export function isServing(pid: number): boolean {
  if (pid <= 0) return false;
  try {
    const fields = statOf(pid);
    const state = fields[STAT_STATE] ?? "X";
    if ("ZXx".includes(state) || (Number(fields[STAT_FLAGS]) & PF_EXITING) !== 0) return false;
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const pending = [...status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)/gm)];
    return !pending.some(([, bits]) => (BigInt(`0x${bits}`) & SIGKILL_BIT) !== 0n);
  } catch {
    return false;
  }
}

/**
 * Whoever started us did not want it to reach us, as nohup has it with SIGHUP. At a terminal it
 * cannot be told of SIGINT, for which the runtime sets a handler before we are there.
 */
export function isIgnored(signal: NodeJS.Signals): boolean {
  const status = readFileSync("/proc/self/status", "utf8");
  const bits = BigInt(`0x${/^SigIgn:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0"}`);
  return ((bits >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n;
}

/** A shell's `ulimit -t` and `-f` are for its commands: they would end a server, or fail writes. */
export function liftLimits(): void {
  libc.raiseLimit(libc.RLIMIT_CPU);
  libc.raiseLimit(libc.RLIMIT_FSIZE);
}

/** In /proc/PID/maps, of a file that is not written to: address range, `x` for code, offset. */
const PROGRAM_MAPPING = /^([0-9a-f]+)-([0-9a-f]+) r-(.)p ([0-9a-f]+) \S+ [1-9]/;

/**
 * After the start: lets go of garbage, and of the pages of the executable and its libraries. They
 * can be read again, and most were needed only to start. Linux never moves or writes to code, nor
 * to the read-only data at a file's beginning; other pages may be ours alone and have to stay.
 */
export function giveBackProgram(): void {
  Bun.gc(true); // nothing else would start it (RUNTIME_OPTIONS in launch.ts)
  for (const line of readFileSync("/proc/self/maps", "latin1").split("\n")) {
    const [, from = "", to = "", execute, offset = ""] = PROGRAM_MAPPING.exec(line) ?? [];
    if (execute !== "x" && Number.parseInt(offset, 16) !== 0) continue;
    const address = Number.parseInt(from, 16);
    libc.dropPages(address, Number.parseInt(to, 16) - address);
  }
}
