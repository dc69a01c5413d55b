// What has to be true of a machine after every story, whatever the story was about.

import type { Vm } from "./vm.ts";

/** Words by which a kernel says that something went wrong in itself. */
const SPLATS = [
  /\b(BUG|WARNING|Oops|KASAN|UBSAN|KCSAN|KFENCE|refcount_t): /,
  /\b(general protection fault|kernel panic|Kernel panic|invalid opcode|DEBUG_LOCKS_WARN_ON)\b/,
  /\bblocked for more than \d+ seconds|\b(soft|hard) lockup|\brcu.* stall/,
  /\bpossible (recursive|circular) locking|\bscheduling while atomic|\bCall Trace:/,
  /\bsegfault at\b|\btraps: /, // of a program, and of ours most likely
];

/** Lines that match and mean nothing, each with its reason. */
const HARMLESS: RegExp[] = [];

/** The first splat in a kernel's log, with what follows it; nothing if all is well. */
export function splat(log: string): string | undefined {
  const lines = log.split("\n");
  const bad = (line: string) =>
    SPLATS.some((pattern) => pattern.test(line)) && !HARMLESS.some((one) => one.test(line));
  const first = lines.findIndex(bad);
  return first < 0 ? undefined : lines.slice(first, first + 60).join("\n");
}

export interface Survey {
  devices: string[];
  daemons: string[];
  stuck: string[];
  log: string;
}

/** By means of bash alone: `ps` and `ls` take half a second of an emulated processor. */
const SURVEY = `
shopt -s nullglob
for device in /dev/ublkc*; do echo "device $device"; done
program=$(type -P ublk)
for process in /proc/[0-9]*; do
  { read -r stat < $process/stat; } 2> /dev/null || continue
  pid=\${process#/proc/} state=\${stat##*) } name=\${stat#*(} name=\${name%)*}
  [[ $state != Z* && ( $name == ublk* || $process/exe -ef $program ) ]] && echo "daemon $pid"
  [[ $state == D* ]] && echo "stuck $pid ($name) in $(< $process/wchan)"
done
echo @
dmesg`;

export async function survey(vm: Vm): Promise<Survey> {
  const { stdout } = await vm.harness(SURVEY);
  const end = stdout.indexOf("@\n");
  const lines = stdout.slice(0, end).split("\n");
  const all = (word: string) =>
    lines.filter((line) => line.startsWith(word)).map((line) => line.slice(word.length));
  return {
    devices: all("device "),
    daemons: all("daemon "),
    stuck: all("stuck "),
    log: stdout.slice(end + 2),
  };
}

/** What is wrong now and was not before, in sentences. */
export function faults(before: Survey, now: Survey): string[] {
  const news = (old: string[], all: string[]) => all.filter((one) => !old.includes(one));
  const found: string[] = [];
  const say = (what: string, list: string[]) => {
    if (list.length > 0) found.push(`${what}: ${list.join(", ")}`);
  };
  say("devices are left", news(before.devices, now.devices));
  say("ublk processes are left", news(before.daemons, now.daemons));
  say("processes are stuck in the kernel (state D)", news(before.stuck, now.stuck));
  const bad = splat(since(before.log, now.log));
  if (bad) found.push(`the kernel complains:\n${bad}`);
  return found;
}

/** The part of a kernel's log that is new; its ring may have forgotten the beginning. */
function since(before: string, now: string): string {
  const last = before.trimEnd().split("\n").at(-1) ?? "";
  const at = last === "" ? -1 : now.lastIndexOf(last);
  return at < 0 ? now : now.slice(at + last.length);
}

const GRACE_MS = 30_000;

/** Fails unless the machine is as clean as it was `before`. What is ending may take a moment. */
export async function expectClean(vm: Vm, before: Survey): Promise<void> {
  const deadline = Date.now() + GRACE_MS;
  for (;;) {
    const found = faults(before, await survey(vm));
    if (found.length === 0) return;
    const final = found.some((fault) => fault.startsWith("the kernel complains"));
    if (final || Date.now() > deadline) {
      throw new Error(`after the story, ${found.join("\nand ")}`);
    }
    await Bun.sleep(300);
  }
}
