/** qemu's own tools, which are the judge. */

import { readFileSync } from "node:fs";

export const hasQemu = Bun.which("qemu-img") !== null && Bun.which("qemu-io") !== null;

export interface Ran {
  status: number;
  output: string;
}

export function run(command: string[]): Ran {
  const child = Bun.spawnSync(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  return { status: child.exitCode ?? 255, output: `${child.stdout}${child.stderr}` };
}

export function must(command: string[]): string {
  const { status, output } = run(command);
  if (status !== 0) throw new Error(`${command.join(" ")}: status ${status}\n${output}`);
  return output;
}

/** Runs qemu-io commands one after the other. It goes on after one that failed. */
export function qemuIo(path: string, commands: string[]): void {
  if (commands.length === 0) return;
  const output = must(["qemu-io", "-f", "qcow2", ...commands.flatMap(dashC), path]);
  if (/failed|error/i.test(output)) throw new Error(`qemu-io ${commands.join("; ")}: ${output}`);
}

const dashC = (command: string): string[] => ["-c", command];

/** The disk as qemu reads it, or one of its snapshots. */
export function contents(path: string, snapshot?: string): Buffer {
  const raw = `${path}.as_raw`;
  const of = snapshot === undefined ? [] : ["-l", `snapshot.name=${snapshot}`];
  must(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", ...of, path, raw]);
  return readFileSync(raw);
}

/** Exit status of `qemu-img check`: 0 clean, 2 corrupt, 3 leaks. */
export function check(path: string): Ran {
  return run(["qemu-img", "check", "-f", "qcow2", path]);
}
