/** The order of measuring: rounds, in each every contestant in turn, then idle devices. */

import { note } from "../vm/host.ts";
import { about } from "./about.ts";
import { BenchGuest } from "./guest.ts";
import { measureIdle } from "./idle.ts";
import type { Cell, Idle, Loaded, Raw } from "./numbers.ts";
import type { Options } from "./options.ts";
import { deviceSeconds, nextPace, pace, roundSeconds, wholeSeconds } from "./pace.ts";
import { type Seconds, takeTurn, WARM_LONG_REQUESTS, WARM_REQUESTS } from "./session.ts";
import { chosen, type Contestant, IDLE, type IdleCase, nameOf, type Section } from "./table.ts";

const WATCH_SECONDS = 10;
/** So much longer it may take rather than lose a round; one that would end later is not begun. */
const TOLERANCE = 1.25;

export async function measureAll(options: Options, words: string[]): Promise<Raw> {
  const begin = performance.now();
  const sections = chosen(options.quick, options.only);
  const idleCases = chosenIdle(options);
  const idleSeconds = idleCases.reduce((sum, one) => sum + secondsOf(one), 0);
  let seconds = pace(sections, idleSeconds, options);
  const planned = wholeSeconds(sections, seconds, idleSeconds, options.rounds) / 60;
  note(`${options.rounds} rounds, about ${planned.toFixed(0)} minutes`);

  const guest = await BenchGuest.prepare(options.kernel, sections);
  try {
    const cells: Cell[] = [];
    const loaded: Loaded[] = [];
    const left = (tolerance = 1) =>
      options.minutes * 60 * tolerance - (performance.now() - begin) / 1000 - idleSeconds;
    const lengths: number[] = [];
    let rounds = 0;
    let took = roundSeconds(sections, seconds);
    while (rounds < options.rounds && (rounds === 0 || left(TOLERANCE) > took)) {
      const start = performance.now();
      await round(guest, sections, rounds++, seconds, { cells, loaded });
      lengths.push(seconds.run);
      took = (performance.now() - start) / 1000;
      note(`round ${rounds} of ${options.rounds} took ${took.toFixed(0)} s`);
      const share = left() / Math.max(1, options.rounds - rounds);
      seconds = nextPace(sections, options, seconds, took, share);
    }
    const idle = await idleDevices(guest, idleCases);
    const vm = await guest.vm();
    const complaint = await guest.complaint();
    if (complaint) cells.push({ ...NOWHERE, round: rounds, error: complaint });
    const { kvm, kublk } = guest;
    const facts = { vm, kvm, kublk, options: words, rounds: described(lengths, seconds) };
    return { about: await about(facts), cells, loaded, idle };
  } finally {
    await guest.discard();
  }
}

const NOWHERE = { section: "guest", contestant: "kernel", workload: "log" };

function described(lengths: number[], { warm, ramp }: Seconds): string {
  const [least, most] = [Math.min(...lengths), Math.max(...lengths)].map((one) => one.toFixed(1));
  const run = least === most ? least : `${least}–${most}`;
  const long = `, of images also ${WARM_LONG_REQUESTS} of 128K`;
  const warming = `${WARM_REQUESTS} requests or ${warm} s of each kind${long}, to warm up ours`;
  return `${lengths.length}; ${warming}; ${ramp} s (more at depth 1) before each run of ${run} s`;
}

function chosenIdle({ quick, only }: Options): IdleCase[] {
  const wanted = IDLE.filter(
    (one) => (!quick || one.quick) && (only?.test(`idle/${nameOf(one)}/`) ?? true),
  );
  return wanted.map((one) => (quick ? { ...one, devices: one.devices.slice(0, 2) } : one));
}

const secondsOf = ({ family, devices }: IdleCase) =>
  (devices.at(-1) ?? 0) * deviceSeconds(family) +
  devices.length * (WATCH_SECONDS + (family === "ublk" ? 40 : 6));

async function round(
  guest: BenchGuest,
  sections: Section[],
  number: number,
  seconds: Seconds,
  into: { cells: Cell[]; loaded: Loaded[] },
): Promise<void> {
  for (const section of sections) {
    for (const contestant of section.contestants) {
      if (hopeless(contestant, section, into.cells)) continue;
      const vm = await guest.vm();
      const turn = await takeTurn(vm, section, contestant, number, seconds);
      into.cells.push(...turn.cells);
      if (turn.loaded) into.loaded.push(turn.loaded);
      if (turn.broken) await guest.discard();
      note(`${number + 1} ${section.id} ${nameOf(contestant)}: ${summary(turn.cells)}`);
    }
  }
}

/** Nothing of it ever worked: its failure is told, its time is left to the others. */
function hopeless(contestant: Contestant, section: Section, cells: Cell[]): boolean {
  const name = nameOf(contestant);
  const own = cells.filter((one) => one.section === section.id && one.contestant === name);
  return own.length > 0 && own.every(({ error }) => error !== undefined);
}

const summary = (cells: Cell[]) =>
  cells.map((one) => `${one.workload} ${one.error ?? Math.round(one.iops ?? 0)}`).join(", ");

async function idleDevices(guest: BenchGuest, cases: IdleCase[]): Promise<Idle[]> {
  const found: Idle[] = [];
  for (const one of cases) {
    const vm = await guest.vm();
    vm.patience = Math.max(vm.patience, 10 * secondsOf(one));
    try {
      const rows = await measureIdle(vm, one, WATCH_SECONDS);
      found.push(...rows);
      note(`idle ${nameOf(one)}: ${rows.map((row) => JSON.stringify(row)).join(" ")}`);
    } catch (error) {
      found.push({
        contestant: nameOf(one),
        devices: 0,
        error: String(error).split("\n")[0] ?? "",
      });
      await guest.discard();
    }
  }
  return found;
}
