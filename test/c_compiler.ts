/** Asks the C compiler what constants are and where members sit, in headers of our choice. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageTree, type Suite } from "./vm/apt.ts";

/** Newest first: one suite at a time has no kernel headers, when the next kernel is not begun. */
const SUITES: Suite[] = ["experimental", "trixie-backports"];
const ARCHIVE_WAIT_MS = 120_000;

/** A folder of headers, or why there is none. */
export type Headers = { include: string } | { missing: string };

/** The kernel's headers as the newest Debian ships them. In CI they have to be there. */
export async function newestKernelHeaders(): Promise<Headers> {
  const found = Bun.which("cc") === null ? { missing: "there is no cc" } : await download();
  if ("missing" in found && process.env["CI"] === "true") throw new Error(found.missing);
  return found;
}

async function download(): Promise<Headers> {
  let reason = "";
  const late = Bun.sleep(ARCHIVE_WAIT_MS).then(() => {
    throw new Error("the archive takes too long");
  });
  late.catch(() => {}); // nobody may be waiting any more
  for (const suite of SUITES) {
    try {
      const tree = await Promise.race([packageTree(suite, /^linux-libc-dev$/), late]);
      return { include: join(tree, "usr/include") };
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
  }
  return { missing: `no kernel headers: ${reason.split("\n")[0]}` };
}

/** What is asked: our name for it, and an integer expression in C. */
export type Questions = ReadonlyMap<string, string>;

/** The answers by name. Throws the compiler's words when it does not know an identifier. */
export function askCompiler(
  headers: readonly string[],
  questions: Questions,
  ...includes: (string | undefined)[]
): Map<string, bigint> {
  const lines = [...questions].map(
    ([name, expression]) => `  printf("${name} %lld\\n", (long long)(${expression}));`,
  );
  const source = [
    "#define _GNU_SOURCE",
    "#include <stddef.h>",
    "#include <stdio.h>",
    ...headers.map((header) => `#include <${header}>`),
    "#define SIZE(type, member) sizeof(((type *)0)->member)",
    `int main(void) {\n${lines.join("\n")}\n}\n`,
  ].join("\n");
  const dir = mkdtempSync(join(tmpdir(), "ublk-abi-"));
  try {
    const program = join(dir, "ask");
    writeFileSync(`${program}.c`, source);
    const search = includes.flatMap((one) => (one === undefined ? [] : ["-isystem", one]));
    succeed(["cc", "-w", ...search, "-o", program, `${program}.c`]);
    const answers = succeed([program]).trim().split("\n");
    return new Map(answers.map((line) => split(line)));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Where members are, by type and member. */
export type Layouts = Record<string, Record<string, number>>;

/** The same types and members, with the compiler's answers. */
export function layoutsOf(layouts: Layouts, headers: readonly string[], include?: string): Layouts {
  const questions = new Map<string, string>();
  for (const [type, members] of Object.entries(layouts)) {
    for (const member of Object.keys(members)) {
      questions.set(`${type}.${member}`, `offsetof(${type}, ${member})`);
    }
  }
  const found: Layouts = {};
  for (const [name, at] of askCompiler(headers, questions, include)) {
    const [type = "", member = ""] = name.split(".");
    (found[type] ??= {})[member] = Number(at);
  }
  return found;
}

function split(line: string): [string, bigint] {
  const space = line.lastIndexOf(" ");
  return [line.slice(0, space), BigInt(line.slice(space + 1))];
}

function succeed(command: string[]): string {
  const child = Bun.spawnSync(command);
  if (child.success) return child.stdout.toString();
  throw new Error(`${command[0]}: ${child.stderr.toString()}`);
}
