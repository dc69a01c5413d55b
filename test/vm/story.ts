// story(): one promise, shown to hold on real kernels. One bun:test test for each kernel.

import { test } from "bun:test";
import { dirname, join } from "node:path";
import type { FeatureFlag } from "../../ffi/ublk_cmd.ts";
import { expectClean, type Survey, survey } from "./checks.ts";
import type { NoKernel } from "./kernel.ts";
import { lacking, type Lent, type Machine, machines } from "./machines.ts";
import type { Vm } from "./vm.ts";

export { CommandError, MachineError, type Result, Vm } from "./vm.ts";
export { raw } from "./quote.ts";

export interface Needs {
  /** Names as in the kernel's header, such as "UBLK_F_USER_COPY". */
  features?: FeatureFlag[];
  /** Lines of kernels, where no feature can say it. */
  kernels?: string[];
  /** Mebibytes, of a guest of its own. */
  memory?: number;
  /** A guest that has told no story before. */
  alone?: boolean;
  /** Seconds for the whole story, without the boot. */
  timeout?: number;
}

type Tell = (vm: Vm) => Promise<void>;

const STORY_SECONDS = 300;
/** For booting, up to three times, and for looking at a machine that hangs. */
const AROUND_SECONDS = 600;

const PRISTINE: Survey = { devices: [], daemons: [], stuck: [], log: "" };

// Before any test is registered: a test that has to be skipped says so by its registration.
const all = await machines();
const offered = new Map<Machine, bigint | undefined>();
for (const one of all) {
  if ("open" in one && (await someStoryAsks())) offered.set(one, await one.features());
}

/** Asking the driver costs a boot, so it is left out as long as no story is about a feature. */
async function someStoryAsks(): Promise<boolean> {
  for await (const path of new Bun.Glob("*.story.ts").scan({ cwd: dirname(Bun.main) })) {
    const text = await Bun.file(join(dirname(Bun.main), path)).text();
    if (text.includes("features: ")) return true;
  }
  return false;
}

export function story(promise: string, needs: Needs, tell: Tell): void {
  for (const machine of all) {
    const kernel = "open" in machine ? machine.kernel : machine.line;
    const name = `${promise} [${kernel}]`;
    const reason = whyNot(machine, needs, tell);
    if (reason !== undefined || !("open" in machine)) {
      test.skip(`${name}: ${reason}`, () => undefined);
      continue;
    }
    const seconds = (needs.timeout ?? STORY_SECONDS) + AROUND_SECONDS;
    test(name, () => run(machine, needs, tell), seconds * 1000);
  }
}

function whyNot(machine: Machine | NoKernel, needs: Needs, tell: Tell): string | undefined {
  if ("missing" in machine) return machine.missing;
  if (needs.kernels && !needs.kernels.includes(machine.kernel)) {
    return `is about ${needs.kernels.join(", ")}`;
  }
  if (machine.isHost && /\.(pullThePlug|reboot)\(/.test(String(tell))) {
    return "pulls the plug, which a guest survives and the host does not";
  }
  const names = lacking(offered.get(machine), needs.features ?? []);
  return names.length > 0 ? `the kernel lacks ${names.join(", ")}` : undefined;
}

async function run(machine: Machine, needs: Needs, tell: Tell): Promise<void> {
  const alone = needs.alone || needs.memory !== undefined || Boolean(process.env["UBLK_ALONE"]);
  const { vm, giveBack } = alone ? await ownGuest(machine, needs.memory) : await machine.lend();
  let clean = false;
  try {
    const before = machine.isHost ? await survey(vm) : PRISTINE;
    await withinTime(vm, needs.timeout ?? STORY_SECONDS, () => tell(vm));
    await vm.killStarted();
    await expectClean(vm, before);
    clean = true;
  } finally {
    await giveBack(clean);
  }
}

async function ownGuest(machine: Machine, memory?: number): Promise<Lent> {
  const vm = await machine.open(memory);
  return { vm, giveBack: () => vm.close() };
}

async function withinTime(vm: Vm, seconds: number, tell: () => Promise<void>): Promise<void> {
  const late = Promise.withResolvers<"late">();
  const timer = setTimeout(() => late.resolve("late"), seconds * 1000);
  try {
    if ((await Promise.race([tell(), late.promise])) !== "late") return;
  } finally {
    clearTimeout(timer);
  }
  throw new Error(`the story is not over after ${seconds} s\n${await vm.diagnosis()}`);
}
