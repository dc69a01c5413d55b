/** The goals, as data. */

import type { Idle } from "./numbers.ts";
import { WORKLOADS } from "./table.ts";

export type Choice = (contestant: string) => boolean;

const polls: Choice = (name) => name.includes("--poll-us");
const fromUs: Choice = (name) => name.startsWith("ublk ") && !polls(name);
const pollingOfUs: Choice = (name) => name.startsWith("ublk ") && polls(name);
const automatic: Choice = (name) => name === "ublk (default)";
const forced: Choice = (name) => fromUs(name) && !automatic(name);
const kublk: Choice = (name) => name.startsWith("kublk ");
const named =
  (start: string): Choice =>
  (name) =>
    name.startsWith(start);

export interface Ratio {
  kind: "ratio";
  what: string;
  sections: readonly string[];
  workloads: readonly string[];
  /** The best of these … */
  ours: Choice;
  /** … against the best of those. */
  theirs: Choice;
  /** Requests a second, or the daemon's user CPU time for a request, of which less is better. */
  of: "iops" | "user";
  bound: number;
}

export interface Amount {
  kind: "amount";
  what: string;
  unit: string;
  value: (idle: readonly Idle[]) => number | undefined;
  bound: number;
}

const LOOPS = ["ext4", "tmpfs"];
const DISKS = ["null", ...LOOPS];
const DEEP = ["rr32", "rr128", "rw32"];
const QCOW2 = ["qcow2"];
const NEW = ["qcow2-new"];
const RANDOM = ["rr32", "rw32"];
const STREAMS = ["sr32", "sw32"];
const qcow2: Choice = (name) => name === "ublk -t qcow2";
const ourLoop: Choice = (name) => name === "ublk -t loop";
const MIB = 1024;

const ratio = (
  what: string,
  sections: readonly string[],
  workloads: readonly string[],
  [ours, theirs]: [Choice, Choice],
  bound: number,
  of: "iops" | "user" = "iops",
): Ratio => ({ kind: "ratio", what, sections, workloads, ours, theirs, of, bound });

const rss = (idle: readonly Idle[], contestant: string) =>
  idle.find((one) => one.contestant === contestant && one.devices === 1)?.rss;

export const GOALS: readonly (Ratio | Amount)[] = [
  ratio("null: best of each against kublk", ["null"], DEEP, [fromUs, kublk], 1.05),
  ratio("null: against null_blk", ["null"], DEEP, [fromUs, named("null_blk")], 0.95),
  ratio("null, depth 1: against kublk", ["null"], ["rr1"], [fromUs, kublk], 1),
  ratio("null, depth 1, --poll-us: against kublk", ["null"], ["rr1"], [pollingOfUs, kublk], 1.5),
  ratio("loop: best of each against kublk", LOOPS, DEEP, [fromUs, kublk], 1.1),
  ratio("loop: against losetup --direct-io", LOOPS, DEEP, [fromUs, named("losetup")], 1.2),
  ratio("loop, depth 1: against kublk", LOOPS, ["rr1"], [fromUs, kublk], 1),
  ratio(
    "loop, depth 1, --poll-us: against losetup",
    LOOPS,
    ["rr1"],
    [pollingOfUs, named("losetup")],
    1,
  ),
  ratio(
    "loop, 128K sequential: against losetup",
    LOOPS,
    ["sr32", "sw32"],
    [fromUs, named("losetup")],
    1.1,
  ),
  ratio("qcow2: against qemu-nbd", QCOW2, RANDOM, [qcow2, named("qemu-nbd")], 6),
  ratio("qcow2: against our loop", QCOW2, RANDOM, [qcow2, ourLoop], 0.85),
  ratio("qcow2, sequential: against our loop", QCOW2, STREAMS, [qcow2, ourLoop], 0.9),
  ratio("qcow2, new clusters: against qemu-nbd", NEW, ["aw32"], [qcow2, named("qemu-nbd")], 3),
  ratio(
    "the automatic choice: against the best forced one",
    DISKS,
    WORKLOADS.map(({ id }) => id),
    [automatic, forced],
    0.95,
  ),
  ratio(
    "user CPU for a request of null",
    ["null"],
    ["rr32", "rr128"],
    [fromUs, kublk],
    1.1,
    "user",
  ),
  {
    kind: "amount",
    what: "resident memory of an idle device",
    unit: "MiB",
    value: (idle) => inMib(rss(idle, "ublk (default)")),
    bound: 40,
  },
  {
    kind: "amount",
    what: "resident memory of a second queue",
    unit: "MiB",
    value: (idle) => inMib(minus(rss(idle, "ublk -q 2"), rss(idle, "ublk (default)"))),
    bound: 4,
  },
  {
    kind: "amount",
    what: "CPU time of 64 idle devices",
    unit: "ms a second",
    value: (idle) =>
      idle.find(({ contestant, devices }) => contestant === "ublk (default)" && devices === 64)
        ?.cpu,
    bound: 1,
  },
];

const minus = (a?: number, b?: number) => (a === undefined || b === undefined ? undefined : a - b);
const inMib = (kib?: number) => (kib === undefined ? undefined : kib / MIB);
