/** What is measured: workloads, contestants and where they meet. All of it is data. */

export interface Workload {
  id: string;
  title: string;
  rw: "randread" | "randwrite" | "read" | "write";
  bs: "4k" | "128k";
  depth: number;
}

const random = (rw: "randread" | "randwrite", depth: number): Workload => ({
  id: `${rw === "randread" ? "rr" : "rw"}${depth}`,
  title: `4K random ${rw.slice(4)}, depth ${depth}`,
  rw,
  bs: "4k",
  depth,
});
const sequential = (rw: "read" | "write"): Workload => ({
  id: `s${rw[0]}32`,
  title: `128K sequential ${rw}, depth 32`,
  rw,
  bs: "128k",
  depth: 32,
});

/** On a disk that is nearly empty: each request needs a cluster of its own. */
export const ALLOCATING: Workload = {
  ...random("randwrite", 32),
  id: "aw32",
  title: "4K random write to new clusters, depth 32",
};

export const WORKLOADS: readonly Workload[] = [
  ...[1, 32, 128].map((depth) => random("randread", depth)),
  ...[1, 32, 128].map((depth) => random("randwrite", depth)),
  ALLOCATING,
  sequential("read"),
  sequential("write"),
];

/** `kernel`: what the kernel does without a daemon; `qemu`: qemu-nbd with the kernel's nbd. */
export type Family = "ublk" | "kublk" | "kernel" | "qemu";

export interface Contestant {
  family: Family;
  /** Options of `add`; for the kernel the kind of device. */
  options: string;
  /** Its workloads, if not all of the section's. */
  workloads?: readonly string[];
  quick?: boolean;
}

export const nameOf = ({ family, options }: Contestant) =>
  family === "kernel" || family === "qemu" ? options : `${family} ${options || "(default)"}`.trim();

/** Those that serve the section's image, and not its file. */
export const usesImage = ({ family, options }: Contestant) =>
  family === "qemu" || options.includes("-t qcow2");

/** An image in qemu's format. */
export interface Image {
  path: string;
  /** Behind `qemu-img create -f qcow2`. */
  options: string;
  /** Made anew for each turn; otherwise once. */
  fresh: boolean;
}

export interface Section {
  id: string;
  title: string;
  /** The backing file; none for null. */
  file?: string;
  image?: Image;
  /** Seconds before each run, where that takes longer than elsewhere. */
  ramp?: number;
  workloads: readonly string[];
  contestants: readonly Contestant[];
}

/** Depth 1 is what polling is for. */
const POLLING: Contestant = { family: "ublk", options: "--poll-us 500", workloads: ["rr1"] };
/** Modes that are compared where they matter. */
const DEEP = ["rr32", "rr128"];
const DEEP_AND_WRITES = [...DEEP, "rw32", "sr32"];

const NULL: Section = {
  id: "null",
  title: "null",
  workloads: ["rr1", "rr32", "rr128", "rw32", "sr32"],
  contestants: [
    { family: "ublk", options: "", quick: true },
    { family: "kublk", options: "-q 1", quick: true },
    { family: "ublk", options: "--mode copy", quick: true },
    { family: "ublk", options: "--mode copy -b", quick: true },
    { family: "kublk", options: "-q 1 -b", quick: true },
    { family: "ublk", options: "-z", workloads: DEEP_AND_WRITES, quick: true },
    { family: "kublk", options: "-q 1 --auto_zc", workloads: DEEP_AND_WRITES, quick: true },
    { family: "kublk", options: "-q 1 -b --auto_zc", workloads: DEEP },
    { family: "ublk", options: "--mode zero-copy", workloads: DEEP },
    { family: "kublk", options: "-q 1 -z", workloads: DEEP },
    { family: "ublk", options: "-q 2" },
    { family: "kublk", options: "-q 2" },
    POLLING,
    { family: "kernel", options: "null_blk", quick: true },
  ],
};

const LOOP: readonly Contestant[] = [
  { family: "ublk", options: "", quick: true },
  { family: "kublk", options: "-q 1 --auto_zc", quick: true },
  { family: "kernel", options: "losetup --direct-io=on", quick: true },
  { family: "ublk", options: "-z" },
  { family: "ublk", options: "-b --mode copy" },
  { family: "kublk", options: "-q 1" },
  POLLING,
  { family: "kernel", options: "the file itself", quick: true },
];

const loop = (id: string, file: string): Section => ({
  id,
  title: `loop on ${id}`,
  file,
  workloads: ["rr1", "rr32", "rr128", "rw32", "sr32", "sw32"],
  contestants: LOOP,
});

export const TMPFS = "/mnt/bench";
export const FILE_MIB = 512;

const EXT4_FILE = "/data/bench.img";
const OUR_QCOW2: Contestant = { family: "ublk", options: "-t qcow2", quick: true };
const QEMU_NBD: Contestant = { family: "qemu", options: "qemu-nbd --cache=none", quick: true };

/** The guest is emulated, where a compiler that is still at work costs more than the work. */
const QCOW2_RAMP = 2;

/** Every cluster is there: no table changes. */
const ALLOCATED: Section = {
  id: "qcow2",
  title: "qcow2 on ext4, allocated clusters",
  file: EXT4_FILE,
  image: {
    path: "/data/bench.qcow2",
    options: `-o preallocation=full FILE ${FILE_MIB}M`,
    fresh: false,
  },
  ramp: QCOW2_RAMP,
  workloads: ["rr32", "rw32", "sr32", "sw32"],
  contestants: [OUR_QCOW2, { family: "ublk", options: "-t loop", quick: true }, QEMU_NBD],
};

/** So large that hardly a cluster is met twice, and small enough for anybody's cache of tables. */
const EMPTY: Section = {
  id: "qcow2-new",
  title: "qcow2 on ext4, new clusters",
  image: { path: "/data/new.qcow2", options: "FILE 32G", fresh: true },
  ramp: QCOW2_RAMP,
  workloads: [ALLOCATING.id],
  contestants: [OUR_QCOW2, QEMU_NBD],
};

export const SECTIONS: readonly Section[] = [
  NULL,
  loop("ext4", EXT4_FILE),
  loop("tmpfs", `${TMPFS}/bench.img`),
  ALLOCATED,
  EMPTY,
];

/** Of the sections what `wanted` says; names are SECTION/CONTESTANT/WORKLOAD. */
export function chosen(quick: boolean, only: RegExp | undefined): Section[] {
  const wanted = (section: Section, contestant: Contestant, workload: string) =>
    (!quick || (contestant.quick ?? false)) &&
    (contestant.workloads ?? section.workloads).includes(workload) &&
    (only?.test(`${section.id}/${nameOf(contestant)}/${workload}`) ?? true);
  const sections = SECTIONS.map((section) => ({
    ...section,
    contestants: section.contestants
      .map((one) => ({
        ...one,
        workloads: section.workloads.filter((workload) => wanted(section, one, workload)),
      }))
      .filter(({ workloads }) => workloads.length > 0),
  }));
  return sections.filter(({ contestants }) => contestants.length > 0);
}

/** Devices that nobody uses: what they cost all the same. */
export interface IdleCase {
  family: "ublk" | "kublk";
  options: string;
  /** So many in all, step by step. */
  devices: readonly number[];
  quick?: boolean;
}

export const IDLE: readonly IdleCase[] = [
  { family: "ublk", options: "", devices: [1, 16, 64], quick: true },
  { family: "kublk", options: "-q 1", devices: [1, 16, 64] },
  { family: "ublk", options: "-q 2", devices: [1], quick: true },
  { family: "kublk", options: "-q 2", devices: [1], quick: true },
];
