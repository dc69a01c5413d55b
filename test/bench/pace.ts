/** How long everything takes, and so how long one measurement may be. */

import type { Options } from "./options.ts";
import type { Contestant, Section } from "./table.ts";
import { RAMPS_AT_DEPTH_1, type Seconds, SHORT_WARM_SECONDS, warmedBy } from "./session.ts";

/** Seconds of wall time on an emulated machine, by experience. */
const COST = {
  /** Making and removing a device. */
  turn: { ublk: 2.5, kublk: 1, kernel: 0.6, qemu: 1.5 },
  /** fio's own start and end. */
  fio: 0.6,
  /** Building, booting, filling the files. */
  before: 60,
  /** A device that stays, until it is there and gone. */
  device: { ublk: 2.2, kublk: 0.6 },
} as const;

const LEAST_RUN = 0.6;
const MOST_RUN = 10;
const WARM = 15;
/** A quiet machine has done the requests of a warm-up earlier. */
const WARM_EXPECTED = 0.2;
const RAMP = 0.3;
const QUICK: Seconds = { warm: 3, ramp: 0.3, run: 1 };

const fixed = (run: number): Seconds => ({ warm: WARM, ramp: RAMP, run });

/** What --seconds says, or what --minutes leaves. */
export function pace(sections: Section[], idleSeconds: number, options: Options): Seconds {
  if (options.seconds !== undefined) return { ...fixed(options.seconds), ...quickly(options) };
  if (options.quick) return QUICK;
  const round = (options.minutes * 60 - COST.before - idleSeconds) / options.rounds;
  return fixed(fitting(round, roundSeconds(sections, fixed(0)), sections));
}

/** The length of one run, in a round of so many seconds that without its runs takes so many. */
function fitting(round: number, without: number, sections: Section[]): number {
  const run = (round - without) / cellsOf(sections);
  return Math.min(MOST_RUN, Math.max(LEAST_RUN, run));
}

/** The pace of the rounds that are left, learnt from one that took `took` seconds. */
export function nextPace(
  sections: Section[],
  options: Options,
  last: Seconds,
  took: number,
  round: number,
): Seconds {
  if (options.quick || options.seconds !== undefined) return last;
  const without = took - cellsOf(sections) * last.run;
  return fixed(fitting(round, without, sections));
}

const quickly = ({ quick }: Options) => (quick ? { warm: QUICK.warm, ramp: QUICK.ramp } : {});

export function wholeSeconds(
  sections: Section[],
  seconds: Seconds,
  idleSeconds: number,
  rounds: number,
): number {
  return COST.before + idleSeconds + rounds * roundSeconds(sections, seconds);
}

export function roundSeconds(sections: Section[], seconds: Seconds): number {
  const turns = sections.flatMap(({ contestants, image, ramp = seconds.ramp }) =>
    contestants.map((one) => turnSeconds(one, warmedBy(image).length, { ...seconds, ramp })),
  );
  return turns.reduce((sum, one) => sum + one, 0);
}

function turnSeconds(
  { family, workloads }: Contestant,
  warmUps: number,
  { warm, ramp, run }: Seconds,
): number {
  const each = COST.fio + (family === "ublk" ? warm * WARM_EXPECTED : SHORT_WARM_SECONDS);
  const warming = warmUps * each;
  const ids = workloads ?? [];
  const ramps = ids.length + ids.filter(isDepth1).length * (RAMPS_AT_DEPTH_1 - 1);
  return COST.turn[family] + warming + ramps * ramp + ids.length * (COST.fio + run);
}

const isDepth1 = (id: string) => id.endsWith("r1") || id.endsWith("w1");

const cellsOf = (sections: Section[]) =>
  sections
    .flatMap(({ contestants }) => contestants)
    .reduce((sum, { workloads }) => sum + (workloads?.length ?? 0), 0);

export const deviceSeconds = (family: "ublk" | "kublk") => COST.device[family];
