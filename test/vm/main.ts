// bun run vm: tells stories, or runs one command or a shell, in the laboratory.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { removeOrphans } from "./cache.ts";
import { GuestVm } from "./guest_vm.ts";
import { LabError, toTerminal } from "./host.ts";
import { kernelLines, machineOf, machines } from "./machines.ts";
import type { Vm } from "./vm.ts";

const USAGE = `bun run vm [NAME…]         tell the stories whose file name contains a NAME; all by default
bun run vm --list          name the stories
bun run vm run 'COMMAND'   run a command in a fresh guest; its status becomes ours
bun run vm shell           a shell in a fresh guest

--kernel LINE[,LINE]       7.2, 6.12, rc, … or all; also by UBLK_KERNELS (default: 7.2,6.12)
--kernel native-7.2        User-mode Linux of that line, built by us; see test/vm/README.md
UBLK_LAB=host              tell the stories to this machine's own kernel; needs root`;

/** Stories watch their own time; what `bun test` would do when it runs out is worse. */
const NO_TIMEOUT_MS = 3_600_000;
const RUN_SECONDS = 24 * 3600;

function parse(args: string[]): { words: string[]; list: boolean } {
  const asked = { words: [] as string[], list: false };
  const rest = [...args];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    const [option, value] = arg.split("=");
    if (arg === "--list") asked.list = true;
    else if (option === "--kernel") process.env["UBLK_KERNELS"] = value ?? rest.shift() ?? "";
    else if (arg === "--") asked.words.push(...rest.splice(0));
    else if (arg.startsWith("-")) throw new LabError(`unknown option ${arg}\n${USAGE}`);
    else asked.words.push(arg);
  }
  return asked;
}

async function main(): Promise<number> {
  const { words, list } = parse(process.argv.slice(2));
  if (words[0] === "run") return runOne(words.slice(1).join(" "));
  if (words[0] === "shell") return shell();
  const named = (name: string) => words.length === 0 || words.some((word) => name.includes(word));
  const files = (await readdir(import.meta.dir)).filter((name) => name.endsWith(".story.ts"));
  const stories = files.map((name) => name.replace(".story.ts", "")).filter(named);
  if (stories.length === 0) throw new LabError(`no story is called ${words.join(" or ")}`);
  if (!list) return tell(stories.toSorted());
  for (const name of stories.toSorted()) console.log(name);
  return 0;
}

async function tell(stories: string[]): Promise<number> {
  await machines(); // what takes long is done once, and not inside a test
  const paths = stories.map((name) => `./${join("test/vm", name)}.story.ts`);
  const child = Bun.spawn([process.execPath, "test", `--timeout=${NO_TIMEOUT_MS}`, ...paths], {
    cwd: join(import.meta.dir, "../.."),
    env: process.env,
    stdio: ["ignore", "inherit", "inherit"],
  });
  const status = await child.exited;
  await removeOrphans(); // the last guest's disks: `bun test` ends without a word to anybody
  return status;
}

/** A guest with the first of the kernels that were asked for. */
async function freshGuest(): Promise<Vm> {
  const machine = await machineOf(kernelLines()[0] ?? "");
  if ("missing" in machine) throw new LabError(machine.missing);
  return machine.open();
}

async function runOne(command: string): Promise<number> {
  if (command === "") throw new LabError(`run what?\n${USAGE}`);
  const vm = await freshGuest();
  vm.patience = RUN_SECONDS;
  try {
    return (await vm.live(command)).status;
  } finally {
    await vm.close();
  }
}

async function shell(): Promise<number> {
  const vm = await freshGuest();
  vm.patience = RUN_SECONDS;
  try {
    if (!(vm instanceof GuestVm)) throw new LabError("only an emulated guest has a console");
    return await vm.shell();
  } finally {
    await vm.close();
  }
}

await toTerminal(main);
