/** An error as people read it, or programs that said --json; and its exit code. */

import { errnoName, SysError } from "../../ffi/errno.ts";
import { UsageError } from "../target/parse.ts";

/** docs/troubleshooting.md has them all. */
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

export interface Report {
  /** For standard error, with its last newline. */
  text: string;
  status: number;
}

/**
 * `command`: the program and its verb, if that is known. Not every verb knows --json. `failed`: the
 * exit code when the words made sense.
 */
export function reportOf(
  error: unknown,
  command: string,
  json: boolean,
  failed = EXIT_FAILED,
): Report {
  // Of `check`, 2 would say that the image is corrupt.
  const isUsage = error instanceof UsageError && !command.endsWith(" check");
  const status = isUsage ? EXIT_USAGE : failed;
  const known = !(error as Error).message.startsWith("unknown option '--json'");
  const text = json && known ? asJson(error, command, status) : asLines(error, command).join("\n");
  return { text: `${text}\n`, status };
}

/** One line that says what failed, on what and why; a second one with what to do. */
function asLines(error: unknown, command: string): string[] {
  if (error instanceof UsageError) {
    return [`${command}: ${oneLine(error.message)}`, `       try: ${command} --help`];
  }
  if (!(error instanceof SysError)) return [`${command}: internal error: ${stackOf(error)}`];
  const line = `${command}: ${oneLine(error.message)}`;
  return error.hint === undefined ? [line] : [line, `       ${oneLine(error.hint)}`];
}

/**
 * Names of files come from outside: no line of theirs may look like one of ours, and none of their
 * bytes may steer a terminal.
 */
export function oneLine(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.trimEnd().replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+\s*/g, " ");
}

/** docs/troubleshooting.md describes it; names are added, never changed. */
function asJson(error: unknown, command: string, status: number): string {
  const [, verb] = command.split(" ");
  const facts = { ...(verb === undefined ? {} : { verb }), ...factsOf(error), exit_code: status };
  return JSON.stringify({ error: facts });
}

function factsOf(error: unknown): Record<string, string> {
  if (error instanceof UsageError) return { kind: "usage", message: error.message };
  if (!(error instanceof SysError)) return { kind: "internal", message: stackOf(error) };
  const { errno, op, ...rest } = error.facts();
  const number: Record<string, string> = errno === 0 ? {} : { errno: errnoName(errno) };
  return { kind: "system", message: error.message, op, ...number, ...rest };
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
