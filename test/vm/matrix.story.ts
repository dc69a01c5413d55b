// Goal: whatever a device is made of and whenever its server is killed, errors are seen only where
// the form of recovery permits them, and what was acknowledged is there.
// Method: a writer notes each block with its generation (judge.ts); the server is killed under
// load, while it begins, or while it takes over. What the writer saw and the disk holds is judged.

import { expect } from "bun:test";
import { join } from "node:path";
import { expectClean, survey } from "./checks.ts";
import { IN_FLIGHT, type Verdict } from "./judge.ts";
import { raw, story, type Vm } from "./story.ts";
import type { Started } from "./vm.ts";

/** The long run is `UBLK_ROUNDS=10`: the whole matrix, as often as that. */
const ROUNDS = Number(process.env["UBLK_ROUNDS"] ?? 0);
/** Of the long run: combinations whose name has this, such as " -b ". */
const ONLY = new RegExp(process.env["UBLK_ONLY"] ?? "");
/** Devices that are told about at the same time. */
const SIDE_BY_SIDE = 3;
const FIRST_ID = 10;
/** How much faster than in an emulated guest a server begins in User-mode Linux. */
const NATIVE_SPEED = 8;
/** What takes longer hangs. Beside other guests, a command is given all of the lab's patience. */
const HANGS_MS = ROUNDS > 0 ? 30_000 : undefined;

const KINDS = ["-", "-r", "-r -i", "-r -e"] as const;
const TARGETS = ["null", "loop", "qcow2"] as const;
const WAYS = ["--mode copy", "-z", "-b"] as const;
const DEATHS = ["under load", "in START", "in recovery"] as const;

interface Combination {
  kind: (typeof KINDS)[number];
  target: (typeof TARGETS)[number];
  way: (typeof WAYS)[number];
  death: (typeof DEATHS)[number];
}

function whole(features: string, native: boolean): Combination[] {
  const kinds = KINDS.filter((one) => one !== "-r -e" || features.includes("RECOVERY_FAIL_IO"));
  const needs = { "--mode copy": "", "-z": "AUTO_ZC", "-b": "BATCH_IO" };
  // A server with -b that dies makes the driver write tags from a thread of the kernel, which ends
  // User-mode Linux (src/README.md).
  const ways = WAYS.filter((one) => features.includes(needs[one]) && !(native && one === "-b"));
  // On 6.12 a recovery that is killed may leave a device that can only be deleted (README). And
  // START_DEV reads partitions there, in the server, which cannot be killed when nobody answers.
  const deaths = features.includes("QUIESCE") ? DEATHS : DEATHS.slice(0, 1);
  const all = kinds.flatMap((kind) =>
    TARGETS.flatMap((target) =>
      ways.flatMap((way) => deaths.map((death) => ({ kind, target, way, death }))),
    ),
  );
  return all.filter((one) => ONLY.test(nameOf(one)));
}

const pairsOf = (one: Combination): string[] =>
  Object.values(one).flatMap((a, at, all) => all.slice(at + 1).map((b) => `${a} and ${b}`));

/** So many of them that any two settings meet. */
function pairs(all: Combination[]): Combination[] {
  const missing = new Set(all.flatMap(pairsOf));
  const chosen: Combination[] = [];
  const gain = (one: Combination): number =>
    pairsOf(one).filter((pair) => missing.has(pair)).length;
  while (missing.size > 0) {
    const best = all.reduce((a, b) => (gain(b) > gain(a) ? b : a));
    for (const pair of pairsOf(best)) missing.delete(pair);
    chosen.push(best);
  }
  return chosen;
}

/** Starts a server, kills it ARGS: seconds after it began, or after it opened its device. */
const KILLED = `
killed() {
  delay=$1 when=$2 id=$3; shift 3
  ublk "$@" > /tmp/$id.out 2>&1 & command=$!
  server=
  until [ -n "$server" ]; do
    sleep 0.01
    read -r server _ < /proc/$command/task/$command/children || [ -e /proc/$command/exe ] || break
  done 2> /dev/null
  while [ $when = opened ] && [ -e /proc/$command/exe ]; do
    for file in /proc/$server/fd/*; do [ $file -ef /dev/ublkc$id ] && break 2; done
    sleep 0.02
  done
  sleep $delay
  [ "$server" ] || server=$(ublk list -n $id | sed -n 's/.* daemon pid \\([0-9]*\\) .*/\\1/p')
  kill -KILL $server; wait $command; status=$?
  cat /tmp/$id.out; return $status
}`;

/** What a round is told about at its end. */
interface Told {
  combination: Combination;
  verdict: Verdict | undefined;
  moments: string[];
  recoverMs: number;
  /** The longest that a device took to notice a death, to be recovered, written to, or deleted. */
  stepMs: number;
}

/** One combination, on a device of its own. */
class Trial {
  readonly #vm: Vm;
  readonly #is: Combination;
  readonly #id: number;
  /** Chooses the moments at which servers die. */
  readonly #turn: number;
  #writer: Started | undefined;
  #server = 0;
  #deaths = 0;
  #recoverMs = 0;
  #stepMs = 0;
  /** When servers were killed that had just been started. */
  readonly #moments: string[] = [];

  constructor(vm: Vm, is: Combination, id: number, turn: number) {
    [this.#vm, this.#is, this.#id, this.#turn] = [vm, is, id, turn];
  }

  get #disk(): string {
    return `/dev/ublkb${this.#id}`;
  }

  get #image(): string {
    return `${this.#vm.data}/${this.#id}.${this.#is.target}`;
  }

  get #log(): string {
    return `/tmp/${this.#id}.log`;
  }

  /** What the driver makes of a device whose server is gone. */
  get #orphaned(): string {
    return this.#is.kind === "-" ? "DEAD" : this.#is.kind === "-r -e" ? "FAIL_IO" : "QUIESCED";
  }

  async run(): Promise<Told> {
    const { target, death, kind } = this.#is;
    const base = `${this.#vm.data}/base.${target}`;
    if (target === "null") await this.#vm.sh`: > ${this.#log}`;
    else
      await this.#vm.sh`cp --sparse=always ${base} ${this.#image} && cp /tmp/base.log ${this.#log}`;
    if (death === "in START") await this.#killedInStart();
    else await this.#add();
    this.#writer = this.#judge("write");
    await this.#writes(100);
    if (death !== "in START") await this.#diesUnderLoad();
    if (death === "in recovery") await this.#killedInRecovery();
    if (death !== "in START" && kind !== "-") await this.#recovers();
    const verdict = await this.#verdict();
    await this.#step(this.#vm.sh`ublk del -n ${this.#id}`);
    if (target === "qcow2") {
      await this.#vm
        .sh`qemu-img check -q ${this.#image} > /tmp/${this.#id}.check 2>&1 || test $? = 3`;
    }
    const moments = this.#moments;
    return {
      combination: this.#is,
      verdict,
      moments,
      recoverMs: this.#recoverMs,
      stepMs: this.#stepMs,
    };
  }

  get #words(): string[] {
    const { kind, target, way } = this.#is;
    const recovery = kind === "-" ? [] : kind.split(" ");
    const of = target === "null" ? ["--size", "16M"] : ["-f", this.#image];
    return ["add", "-n", String(this.#id), "-t", target, ...of, ...recovery, ...way.split(" ")];
  }

  async #add(): Promise<void> {
    this.#served(await this.#vm.sh`ublk ${this.#words}`);
  }

  #served(printed: string): void {
    expect(printed).toContain(" state LIVE");
    this.#server = Number(/daemon pid (\d+)/.exec(printed)?.[1]);
  }

  #judge(verb: string, disk = this.#disk): Started {
    // Compiling takes an emulated processor longer than all that is compiled.
    const judge = "BUN_JSC_useJIT=0 UV_THREADPOOL_SIZE=8 BUN_BE_BUN=1 exec ublk run /tmp/judge.ts";
    return this.#vm.start`${raw(judge)} ${verb} ${disk} ${this.#log}`;
  }

  /** Something that must not hang; answers what it answers. */
  async #step<T>(doing: Promise<T>): Promise<T> {
    const begun = Date.now();
    const answer = await doing;
    const ms = Date.now() - begun;
    this.#stepMs = Math.max(this.#stepMs, ms);
    // 6.12 may notice a death only by the driver's timeout of 30 s.
    const hangs = HANGS_MS && HANGS_MS * (this.#vm.kernel.endsWith("6.12") ? 2 : 1);
    if (hangs) expect(ms).toBeLessThan(hangs);
    return answer;
  }

  /** Waits until so many more writes have ended. */
  async #writes(count: number): Promise<void> {
    await this.#vm.sh`stat=/sys/block/ublkb${this.#id}/stat
      read -r _ _ _ _ begin _ < $stat; now=$begin
      until ((now >= begin + ${count})); do sleep 0.05; read -r _ _ _ _ now _ < $stat; done`;
  }

  async #mark(word: "may" | "must"): Promise<void> {
    if (this.#is.kind === "-r -i") return; // never may there be an error
    await this.#vm.sh`echo ${word} >> ${this.#log}`;
  }

  /** The device is seen to have lost its server. */
  async #isOrphaned(): Promise<void> {
    this.#deaths++;
    await this.#step(this.#vm.becomes(this.#id, this.#orphaned, 120_000));
    // What was in flight has failed by now, and the rest waits.
    if (this.#is.kind === "-r") await this.#mark("must");
  }

  async #diesUnderLoad(): Promise<void> {
    await this.#mark("may");
    await this.#vm.sh`kill -KILL ${this.#server}`;
    // Without waiting, now and then: `recover` waits for the driver itself.
    if (this.#is.kind !== "-r -i" || this.#turn % 2 === 0) await this.#isOrphaned();
    if (this.#is.kind !== "-r -e") return;
    const read = await this.#vm.run`dd if=${this.#disk} of=/dev/null bs=4k count=1 iflag=direct`;
    expect(read.stderr).toContain("Remote I/O error"); // BLK_STS_TARGET
  }

  async #killed(when: "born" | "opened", step: number, words: string[]): Promise<void> {
    const tenths = ((this.#turn * 7 + step * 3) % 12) / (when === "born" ? 1 : 2.5);
    const delay = (tenths / (this.#vm.native ? NATIVE_SPEED : 1) / 10).toFixed(3);
    const result = await this.#vm.run`${raw(KILLED)}
      killed ${delay} ${when} ${this.#id} ${words}`;
    const lines = result.stdout.split("\n").filter((line) => !/^$|: waiting /.test(line));
    expect(lines.length, result.stdout).toBeLessThanOrEqual(6);
    expect([0, 1], result.stdout + result.stderr).toContain(result.status);
    this.#moments.push(`${when} + ${delay} s: ${result.status === 0 ? "live" : "not yet live"}`);
  }

  async #killedInStart(): Promise<void> {
    await this.#killed(this.#turn % 4 === 0 ? "born" : "opened", 0, this.#words);
    // It may be live until the driver has noticed.
    const list = `/tmp/${this.#id}.list`;
    const text = await this.#vm.sh`while ublk list -n ${this.#id} > ${list} 2> /dev/null &&
      grep -q 'state LIVE' ${list}; do sleep 0.1; done; cat ${list}`;
    const state = / state (\w+)/.exec(text)?.[1] ?? "none";
    expect(["none", "DEAD", this.#orphaned]).toContain(state);
    if (state === "none") return this.#add();
    if (state !== "DEAD") return this.#recovers();
    await this.#refused(/is DEAD|was made without recovery/);
    await this.#vm.sh`ublk del -n ${this.#id}`;
    await this.#add();
  }

  async #refused(why: RegExp): Promise<void> {
    const result = await this.#vm.run`ublk recover -n ${this.#id}`;
    expect([result.status, result.stdout], result.stderr).toEqual([1, ""]);
    expect(result.stderr).toMatch(why);
  }

  async #killedInRecovery(): Promise<void> {
    if (this.#is.kind === "-") return this.#refused(/was made without recovery/);
    for (const [step, when] of (["born", "opened"] as const).entries()) {
      await this.#mark("may");
      await this.#killed(when, step, ["recover", "-n", String(this.#id)]);
      await this.#isOrphaned();
    }
  }

  async #recovers(): Promise<void> {
    const begun = Date.now();
    this.#served(await this.#step(this.#vm.sh`cd /tmp && ublk recover -n ${this.#id}`));
    this.#recoverMs = Date.now() - begun;
    if (this.#is.kind === "-r -e") await this.#mark("must");
    if (this.#writer) await this.#step(this.#writes(50));
  }

  async #verdict(): Promise<Verdict> {
    const { kind, target, death } = this.#is;
    await this.#writer!.signal("TERM");
    await this.#writer!.succeeds();
    const ends = kind === "-" && death !== "in START";
    if (ends) {
      await this.#vm.sh`ublk del -n ${this.#id}`;
      await this.#add();
    }
    const judge = this.#judge("verify", target === "null" ? "-" : this.#disk);
    const verdict: Verdict = JSON.parse(await judge.succeeds());
    expect(verdict.wrong).toEqual([]);
    expect(verdict.acknowledged).toBeGreaterThan(0);
    if (!ends) expect(verdict.since).toBeGreaterThan(0);
    const errors = Object.values(verdict.errors).reduce((a, b) => a + b, 0);
    if (kind === "-r") expect(errors).toBeLessThanOrEqual(IN_FLIGHT * this.#deaths);
    return verdict;
  }
}

const nameOf = ({ kind, target, way, death }: Combination): string =>
  `${kind} ${target} ${way} ${death}`;

/** What every image holds at first. */
async function prepare(vm: Vm): Promise<void> {
  await vm.write("/tmp/judge.ts", await Bun.file(join(import.meta.dir, "judge.ts")).text());
  const base = `${vm.data}/base`;
  await vm.sh`BUN_BE_BUN=1 ublk run /tmp/judge.ts fill ${base}.loop /tmp/base.log
    qemu-img convert -O qcow2 ${base}.loop ${base}.qcow2`;
}

/** Some at a time; each has a device number of its own. */
async function tellAll(vm: Vm, all: Combination[], round: number): Promise<Told[]> {
  const told: Told[] = [];
  const waiting = [...all.entries()];
  const next = async (id: number): Promise<void> => {
    for (let one = waiting.shift(); one; one = waiting.shift()) {
      const [index, combination] = one;
      const begun = Date.now();
      const trial = new Trial(vm, combination, id, round + index);
      const result = await trial.run().catch((error: unknown) => {
        throw new Error(`${nameOf(combination)}: ${String(error)}`, { cause: error });
      });
      told.push(result);
      const seen = [...result.moments, JSON.stringify(result.verdict)].join(", ");
      console.log(`${nameOf(combination)}: ${Date.now() - begun} ms ${seen}`);
    }
  };
  const ids = Array.from({ length: SIDE_BY_SIDE }, (_, at) => FIRST_ID + at);
  await Promise.all(ids.map(next));
  return told;
}

/** What is written down of a long run. */
function sum(told: Told[]): string {
  const most = (of: (one: Told) => number): number => Math.max(...told.map(of));
  const lines = KINDS.map((kind) => {
    const of = told.filter(({ combination }) => combination.kind === kind);
    const errors: Record<string, number> = {};
    for (const { verdict } of of) {
      for (const [code, count] of Object.entries(verdict?.errors ?? {})) {
        errors[code] = (errors[code] ?? 0) + count;
      }
    }
    return `${kind}: ${of.length} times, errors ${JSON.stringify(errors)}`;
  });
  const still = most(({ verdict }) => verdict?.stillMs ?? 0);
  const recover = most(({ recoverMs }) => recoverMs);
  const step = most(({ stepMs }) => stepMs);
  const times = `no write ended for ${still} ms, recover took ${recover} ms, any step ${step} ms`;
  return [...lines, `at most, ${times}`].join("\n");
}

story(
  "a server that is killed costs what its form of recovery permits, and no acknowledged block",
  { timeout: ROUNDS > 0 ? 1800 * ROUNDS : 600 },
  async (vm) => {
    const before = await survey(vm);
    await prepare(vm);
    const all = whole(await vm.sh`ublk features`, vm.native);
    expect(all).not.toBeEmpty();
    const told: Told[] = [];
    for (let round = 0; round < Math.max(1, ROUNDS); round++) {
      const begun = Date.now();
      told.push(...(await tellAll(vm, ROUNDS > 0 ? all : pairs(all), round)));
      await expectClean(vm, before);
      console.log(`round ${round + 1}: ${((Date.now() - begun) / 1000).toFixed(0)} s`);
    }
    console.log(sum(told));
  },
);
