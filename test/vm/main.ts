// bun run vm: runs stories, or one command, or a shell, in the laboratory.

import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { LabError, note } from "./host.ts";
import { prepareKernel } from "./kernel.ts";
import { guestMachine, kernelLines, machines } from "./machines.ts";
import type { Vm } from "./vm.ts";

const USAGE = `bun run vm [NAME…]         run the stories whose file name contains a NAME; all by default
bun run vm --list          name the stories
bun run vm run 'COMMAND'   run a command in a fresh guest; its status becomes ours
bun run vm shell           a shell in a fresh guest

--kernel LINE[,LINE]       7.2, 6.12, rc, …; also by UBLK_KERNELS (default: 7.2,6.12)
UBLK_LAB=host              tell the stories to this machine's own kernel; needs root`;

interface Asked {
  words: string[];
  list: boolean;
}

function parse(args: string[]): Asked {
  const asked: Asked = { words: [], list: false };
  const rest = [...args];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    const [name, value] = arg.split("=");
    if (arg === "--list") asked.list = true;
    else if (name === "--kernel") process.env["UBLK_KERNELS"] = value ?? rest.shift() ?? "";
    else if (arg.startsWith("-")) throw new LabError(`unknown option ${arg}\n${USAGE}`);
    else asked.words.push(arg);
  }
  return asked;
}

async function main(): Promise<number> {
  const { words, list } = parse(process.argv.slice(2));
  if (words[0] === "run") return runOne(words.slice(1).join(" "));
  if (words[0] === "shell") return shell();
  const stories = (await readdir(import.meta.dir)).filter((name) => name.endsWith(".story.ts"));
  const chosen = stories
    .toSorted()
    .filter((name) => !words.length || words.some((w) => name.includes(w)));
  if (list) {
    for (const name of chosen) console.log(name.replace(".story.ts", ""));
    return 0;
  }
  if (chosen.length === 0) throw new LabError(`no story is called ${words.join(" or ")}`);
  await machines(); // what takes long is done once, and not inside a test
  const paths = chosen.map((name) => `./${join("test/vm", name)}`);
  const child = Bun.spawn(["bun", "test", "--timeout", "1200000", ...paths], {
    cwd: join(import.meta.dir, "../.."),
    env: process.env,
    stdio: ["ignore", "inherit", "inherit"],
  });
  return child.exited;
}

/** A guest with the first of the kernels that were asked for. */
async function freshGuest(): Promise<Vm> {
  const kernel = await prepareKernel(kernelLines()[0] ?? "");
  if ("missing" in kernel) throw new LabError(kernel.missing);
  return (await guestMachine(kernel)).open();
}

async function runOne(command: string): Promise<number> {
  if (command === "") throw new LabError(`run what?\n${USAGE}`);
  const vm = await freshGuest();
  vm.patience = 3600;
  const result = await vm.live(command);
  await vm.close();
  return result.status;
}

async function shell(): Promise<number> {
  throw new LabError("not yet");
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof LabError)) throw error;
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
void existsSync;
void note;
