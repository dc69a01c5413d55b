/** One contestant's turn: its device is made, warmed up, measured with fio, and removed. */

import { basename } from "node:path";
import { raw } from "../vm/quote.ts";
import { CommandError, type Vm } from "../vm/vm.ts";
import type { Cell, Loaded } from "./numbers.ts";
import { type Running, start } from "./servers.ts";
import {
  ALLOCATING,
  type Contestant,
  type Image,
  nameOf,
  type Section,
  type Workload,
  WORKLOADS,
} from "./table.ts";

export interface Seconds {
  /** At the most, before the first measurement of ours: its JIT has to have seen its work. */
  warm: number;
  /** Before each measurement. */
  ramp: number;
  run: number;
}

/** Enough requests to warm up a JIT. */
export const WARM_REQUESTS = 120_000;
/** And those that a fresh image has room for. */
const WARM_ALLOCATIONS = 20_000;
/** What was learnt from short requests is compiled once more when long ones come. */
export const WARM_LONG_REQUESTS = 40_000;
/** One request at a time is other work than the warm-up's, and slow to come by. */
export const RAMPS_AT_DEPTH_1 = 4;
/** What those without a JIT get to warm up: the emulator translates code too. */
export const SHORT_WARM_SECONDS = 0.5;
const TICK_MICROSECONDS = 10_000; // a USER_HZ

const FIO = [
  "fio --name=bench --ioengine=io_uring --direct=1 --numjobs=1 --norandommap",
  "--randrepeat=0 --gtod_reduce=1 --disk_util=0 --output-format=json",
].join(" ");

export interface Turn {
  cells: Cell[];
  loaded?: Loaded;
  /** The guest may be left in a state in which nothing more should be measured. */
  broken: boolean;
}

/** Microseconds of user time so far, by process: a better clock than the guest's own. */
export type UserClock = () => Promise<Map<number, number>>;

export async function takeTurn(
  vm: Vm,
  section: Section,
  contestant: Contestant,
  round: number,
  seconds: Seconds,
  clock?: UserClock,
): Promise<Turn> {
  const name = nameOf(contestant);
  const workloads = WORKLOADS.filter(({ id }) => contestant.workloads?.includes(id));
  const cells: Cell[] = [];
  const cell = (workload: string, facts: Partial<Cell>) =>
    cells.push({ section: section.id, contestant: name, workload, round, ...facts });
  let running: Running | undefined;
  try {
    running = await start(vm, section, contestant);
    const warm = contestant.family === "ublk" ? seconds.warm : SHORT_WARM_SECONDS;
    await warmUp(vm, running, warm, section);
    const times = { ...seconds, ramp: section.ramp ?? seconds.ramp };
    for (const workload of workloads) {
      cell(workload.id, await run(vm, running, workload, times, clock));
    }
    const rss = await resident(vm, running);
    await running.stop();
    if (rss === undefined) return { cells, broken: false };
    return { cells, broken: false, loaded: { section: section.id, contestant: name, rss } };
  } catch (error) {
    const message = firstLines(error);
    const missing = workloads.filter(({ id }) => !cells.some(({ workload }) => workload === id));
    for (const { id } of missing) cell(id, { error: message });
    if (missing.length === 0) cell("end", { error: message });
    return { cells, broken: running !== undefined };
  }
}

/** What went wrong, without the script that went wrong. */
function firstLines(error: unknown): string {
  const text = error instanceof CommandError ? error.result.stderr || error.message : String(error);
  return text.trim().split("\n").slice(0, 2).join(" ").slice(0, 300);
}

async function warmUp(
  vm: Vm,
  running: Running,
  seconds: number,
  { image }: Section,
): Promise<void> {
  await vm.sh`udevadm settle --timeout=20 || :`;
  for (const workload of warmedBy(image)) {
    // Over and over the same disk, if need be: a number of requests would end with its size.
    const kib = warmRequests(workload) * Number.parseInt(workload.bs);
    const until = `--runtime=${ms(seconds)} --io_size=${kib}k`;
    await vm.sh`${raw(fio(running, workload, until))}`;
  }
}

/**
 * Reading and writing are work of two kinds. So are, for who serves an image, a request inside a
 * cluster and one across several; a file is one piece, however long. Whoever is measured against
 * an image is warmed up as the image is.
 */
export function warmedBy(image: Image | undefined): readonly Workload[] {
  if (image?.fresh) return [ALLOCATING];
  const ids = image === undefined ? ["rr32", "rw32"] : ["rr32", "rw32", "sr32", "sw32"];
  return WORKLOADS.filter(({ id }) => ids.includes(id));
}

function warmRequests({ id, bs }: Workload): number {
  if (id === ALLOCATING.id) return WARM_ALLOCATIONS;
  return bs === "4k" ? WARM_REQUESTS : WARM_LONG_REQUESTS;
}

function fio({ path }: Running, { rw, bs, depth }: Workload, times: string): string {
  return `${FIO} --filename=${path} --rw=${rw} --bs=${bs} --iodepth=${depth} ${times}`;
}

async function run(
  vm: Vm,
  running: Running,
  workload: Workload,
  seconds: Seconds,
  clock: UserClock | undefined,
): Promise<Partial<Cell>> {
  const ramp = seconds.ramp * (workload.depth === 1 ? RAMPS_AT_DEPTH_1 : 1);
  const times = `--time_based --ramp_time=${ms(ramp)} --runtime=${ms(seconds.run)}`;
  const [command, probe] = [fio(running, workload, times), probing(running)];
  const from = await clock?.();
  const text = await vm.sh`${raw(probe)} ${raw(command)}; echo; ${raw(probe)}`;
  const user = from && (await spent(clock, from));
  const [before = "", rest = ""] = cut(text, text.indexOf("{"));
  const [json = "", after = ""] = cut(rest, rest.lastIndexOf("}") + 1);
  const iops = requestsASecond(json);
  if (running.pid === undefined) return { iops };
  const facts = used(before, after);
  return { iops, ...facts, ...(facts.requests && user !== undefined && { user }) };
}

/** Of the processes that were there before, which are the daemon and a shell that waits. */
async function spent(clock: UserClock | undefined, from: Map<number, number>): Promise<number> {
  const now = await clock?.();
  return [...from].reduce((sum, [pid, time]) => sum + (now?.get(pid) ?? time) - time, 0);
}

const ms = (seconds: number) => `${Math.round(seconds * 1000)}ms`;
const cut = (text: string, at: number) => [text.slice(0, at), text.slice(at)];

/** A command that prints the daemon's CPU times and the device's counters. */
function probing({ pid, path }: Running): string {
  return pid === undefined ? "" : `cat /proc/${pid}/stat /sys/block/${basename(path)}/stat;`;
}

interface FioJob {
  error: number;
  read: { iops: number };
  write: { iops: number };
}

function requestsASecond(json: string): number {
  const { jobs } = JSON.parse(json) as { jobs: FioJob[] };
  const [job] = jobs;
  if (!job || job.error !== 0) throw new Error(`fio: error ${job?.error ?? "without a job"}`);
  return job.read.iops + job.write.iops;
}

/** CPU time of the daemon and the requests of its device, ramp included. */
function used(before: string, after: string): Partial<Cell> {
  const [from, to] = [counters(before), counters(after)];
  const requests = to.requests - from.requests;
  if (!(requests > 0)) return {};
  const user = (to.user - from.user) * TICK_MICROSECONDS;
  return { user, cpu: user + (to.system - from.system) * TICK_MICROSECONDS, requests };
}

function counters(text: string): { user: number; system: number; requests: number } {
  const [stat = "", disk = ""] = text.trim().split("\n");
  // The name in parentheses may hold blanks; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const done = disk.trim().split(/\s+/).map(Number);
  const requests = (done[0] ?? 0) + (done[4] ?? 0); // reads and writes completed
  return { user: Number(fields[11]), system: Number(fields[12]), requests };
}

async function resident(vm: Vm, { pid }: Running): Promise<number | undefined> {
  if (pid === undefined) return undefined;
  return Number(/^Rss:\s+(\d+)/m.exec(await vm.sh`cat /proc/${pid}/smaps_rollup`)?.[1]);
}
