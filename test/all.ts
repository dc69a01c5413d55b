/** `bun run test`: check, builds, and every story on each kernel; counts at the end. */

import { join } from "node:path";
import { DEFAULT_KERNELS, kernelList } from "./vm/versions.ts";

const ROOT = join(import.meta.dir, "..");
/** Fewer than this on one kernel means that stories went missing, not that they passed. */
const STORIES_MIN = 50;
/** Of a failure that is told again: its last lines say what was expected and what came. */
const FAILURE_LINES = 40;

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** For the end, where one looks first; and a log that was cut still has it. */
const failures: string[] = [];

interface Ran {
  status: number;
  output: string;
}

/** Runs one of our programs and shows its output as it comes, each line behind `label`. */
async function run(label: string, ...args: string[]): Promise<Ran> {
  const child = Bun.spawn([process.execPath, ...args], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const follow = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of stream) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        output += `${line}\n`;
        console.log(label + line);
      }
    }
  };
  await Promise.all([follow(child.stdout), follow(child.stderr)]);
  keepFailures(label, output);
  return { status: await child.exited, output };
}

/** Everything since the last result belongs to the one that failed. */
function keepFailures(label: string, output: string): void {
  let since: string[] = [];
  for (const line of output.split("\n")) {
    if (/^\d+ tests failed:/.test(line)) return; // they are named once more
    since.push(label + line);
    if (line.startsWith("(fail) ")) failures.push(...since.slice(-FAILURE_LINES), "");
    if (/^\((pass|fail|skip)\) /.test(line)) since = [];
  }
}

async function check(): Promise<Counts> {
  const { status, output } = await run("", "test/check.ts");
  const last = /(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$/.exec(output);
  const failed = Number(last?.[2] ?? 0);
  return {
    passed: Number(last?.[1] ?? 0),
    failed: status === 0 ? failed : Math.max(failed, 1),
    skipped: Number(last?.[3] ?? 0),
  };
}

/** A step that passes or fails as a whole, and shows itself. */
async function step(...args: string[]): Promise<Counts> {
  const { status } = await run("", ...args);
  return { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0 };
}

/** One kernel's stories. A kernel that Debian no longer has is skipped, story by story. */
async function stories(kernel: string): Promise<Counts> {
  const { status, output } = await run(`${kernel}| `, "test/vm/main.ts", "--kernel", kernel);
  const count = (word: string): number =>
    Number(new RegExp(`^ *(\\d+) ${word}$`, "m").exec(output)?.[1] ?? 0);
  const [passed, failed, skipped] = [count("pass"), count("fail"), count("skip")];
  const enough = passed + failed + skipped >= STORIES_MIN;
  if (!enough) console.log(`${kernel}| only ${passed + failed} stories ran, not ${STORIES_MIN}`);
  return { passed, failed: status === 0 && enough ? failed : Math.max(failed, 1), skipped };
}

/** Goes on to the next kernel that nobody has begun with. */
async function tellAll(): Promise<void> {
  for (let kernel = waiting.shift(); kernel !== undefined; kernel = waiting.shift()) {
    const counts = await stories(kernel);
    total = add(total, counts);
  }
}

function add(total: Counts, more: Counts): Counts {
  return {
    passed: total.passed + more.passed,
    failed: total.failed + more.failed,
    skipped: total.skipped + more.skipped,
  };
}

let total = await check();
total = add(total, await step("build.ts"));
total = add(total, await step("build.ts", "--all"));
const waiting = kernelList(process.env["UBLK_KERNELS"] || DEFAULT_KERNELS);
// Two guests at a time: an emulated processor is one of ours, and a story mostly waits for one.
await Promise.all([tellAll(), tellAll()]);
if (failures.length > 0) console.log(`\nwhat failed, once more:\n${failures.join("\n")}`);
const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
console.log(`${total.passed} passed, ${total.failed} failed${skipped}`);
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;
