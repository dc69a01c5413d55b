/** `bun run bench --native`: what a request of null costs where the JIT's code is not emulated. */

import { LabError, note } from "../vm/host.ts";
import { about } from "./about.ts";
import { buildKublk } from "./kublk.ts";
import { type Cell, costOf, digits, same, speedOf, type Spread, spread } from "./numbers.ts";
import type { Options } from "./options.ts";
import { around, table } from "./report.ts";
import { type Seconds, takeTurn } from "./session.ts";
import { type Contestant, nameOf, type Section, type Workload, WORKLOADS } from "./table.ts";
import { program } from "../vm/machines.ts";
import { buildUml } from "../vm/uml.ts";
import { UmlVm } from "../vm/uml_vm.ts";

const DEFAULT_SECONDS = 3;
const AGAINST = "kublk -q 1";

const contestant = (family: "ublk" | "kublk", options: string): Contestant => ({
  family,
  options,
  workloads: ["rr1", "rr32"],
});

const SECTION: Section = {
  id: "null",
  title: "null",
  workloads: ["rr1", "rr32"],
  contestants: [
    contestant("ublk", "--mode copy"),
    contestant("kublk", "-q 1"),
    contestant("ublk", ""),
    contestant("kublk", "-q 1 --auto_zc"),
    contestant("ublk", "--mode copy -b"),
    contestant("kublk", "-q 1 -b"),
    { ...contestant("ublk", "--mode copy --poll-us 500"), workloads: ["rr1"] },
  ],
};

const INTRODUCTION = `# CPU at native speed

Written by \`bun run bench --native\`. User-mode Linux is a kernel that runs as a program of the
host: user code runs at the processor's own speed, but each system call goes by way of a signal and
two switches of processes. So the user part of a daemon's CPU time says what it costs on real
hardware; all of its CPU time and the requests a second say less. The user part is what the host
counts for the daemon's process, all rounds together, with the least and the greatest round in
parentheses: the host samples, so that a single round knows little. All CPU time is the guest's
count. Of the requests a second the median of the rounds is shown. Fio and the daemon share one CPU.`;

export async function measureNative(options: Options, words: string[]): Promise<string> {
  const kublk = await buildKublk(options.kernel);
  if ("missing" in kublk) throw new LabError(`kublk cannot be built: ${kublk.missing}`);
  const uml = await buildUml(options.kernel);
  const seconds = { warm: 5, ramp: 0.3, run: options.seconds ?? DEFAULT_SECONDS };
  const vm = await UmlVm.boot({
    uml: uml.program,
    line: options.kernel,
    program,
    kublk: kublk.program,
  });
  try {
    const cells: Cell[] = [];
    for (let round = 0; round < options.rounds; round++) {
      cells.push(...(await oneRound(vm, round, seconds, options.only)));
    }
    const facts = { vm, kvm: false, kublk, options: words, rounds: `${options.rounds}` };
    const known = await about(facts);
    const guest = `User-mode Linux (seccomp) of ${uml.origin}, 1 CPU`;
    return nativeReport({ ...known, guest }, cells);
  } finally {
    await vm.close();
  }
}

async function oneRound(
  vm: UmlVm,
  round: number,
  seconds: Seconds,
  only: RegExp | undefined,
): Promise<Cell[]> {
  const cells: Cell[] = [];
  for (const one of SECTION.contestants) {
    if (only?.test(nameOf(one)) === false) continue;
    const turn = await takeTurn(vm, SECTION, one, round, seconds, () => vm.userTimes());
    cells.push(...turn.cells);
    const said = turn.cells.map((cell) => `${cell.workload} ${cell.error ?? costs(cell)}`);
    note(`${round + 1} ${nameOf(one)}: ${said.join(", ")}`);
    if (turn.broken) throw new LabError(`${nameOf(one)} broke the guest: ${said.join(", ")}`);
  }
  return cells;
}

const costs = ({ iops = 0, cpu = 0, user = 0, requests = 1 }: Cell) =>
  `${Math.round(iops)}, ${digits(cpu / requests)} / ${digits(user / requests)} us`;

export function nativeReport(known: Record<string, string>, cells: readonly Cell[]): string {
  const workloads = WORKLOADS.filter(({ id }) => cells.some(({ workload }) => workload === id));
  return [
    INTRODUCTION,
    table(["", ""], Object.entries(known)),
    ...workloads.flatMap((workload) => [`## Null, ${workload.title}`, oneTable(cells, workload)]),
  ].join("\n\n");
}

function oneTable(cells: readonly Cell[], { id }: Workload): string {
  const names = new Set(cells.filter((cell) => cell.workload === id).map((one) => one.contestant));
  const at = (contestant: string) => ({ section: SECTION.id, contestant, workload: id });
  const theirs = costOf(cells, at(AGAINST), "user");
  const rows = [...names].map((name) => {
    const user = costOf(cells, at(name), "user");
    return [
      `\`${name}\``,
      user === undefined ? "failed" : `${digits(user)} ${range(roundsOf(cells, name, id))}`,
      user === undefined || !theirs ? "–" : digits(user / theirs),
      digits(costOf(cells, at(name), "cpu") ?? Number.NaN),
      shown(speedOf(cells, at(name)), 1 / 1000),
    ];
  });
  const [user, all] = ["user CPU, us a request", "all CPU, us a request"];
  return table(["", user, `× \`${AGAINST}\``, all, "thousands of requests a second"], rows);
}

/** User time of each round, in microseconds for one request. */
function roundsOf(cells: readonly Cell[], name: string, workload: string): Spread | undefined {
  const own = cells.filter((cell) => same(cell, SECTION.id, name, workload) && cell.requests);
  return spread(own.map(({ user = 0, requests = 1 }) => user / requests));
}

const range = (one: Spread | undefined) => (one ? `(${digits(one.min)}–${digits(one.max)})` : "");
const shown = (one: Spread | undefined, factor: number) => (one ? around(one, factor) : "failed");
