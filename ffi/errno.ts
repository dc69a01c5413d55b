/** Kernel error numbers, their names, and the one error class that carries them. */

import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";

export const {
  EPERM,
  ENOENT,
  EINTR,
  EIO,
  EAGAIN,
  ENOMEM,
  EACCES,
  EBUSY,
  EEXIST,
  ENODEV,
  EINVAL,
  ENOBUFS,
  ENOSPC,
  EROFS,
  EPIPE,
  ETIMEDOUT,
  ETIME,
  EOPNOTSUPP,
  ESRCH,
} = constants.errno;

/** Numbers that the kernel answers and that no libc names (include/linux/errno.h). */
export const ENOTSUPP = 524;

/** Two numbers that others name after sockets, or not at all. */
const KERNEL_WORDS: Record<number, readonly [name: string, text: string]> = {
  [EOPNOTSUPP]: ["EOPNOTSUPP", "operation not supported"],
  [ENOTSUPP]: ["ENOTSUPP", "operation not supported"],
};

function wordsOf(errno: number): readonly [name: string, text: string] | undefined {
  return KERNEL_WORDS[errno] ?? getSystemErrorMap().get(-errno);
}

/** "EBUSY" for 16; "errno 4000" for a number without a name. */
export function errnoName(errno: number): string {
  const known = wordsOf(errno);
  if (known !== undefined) return known[0];
  for (const [name, number] of Object.entries(constants.errno)) if (number === errno) return name;
  return `errno ${errno}`;
}

/** "EBUSY (resource busy or locked)". */
export function errnoText(errno: number): string {
  const known = wordsOf(errno);
  return known === undefined ? errnoName(errno) : `${known[0]} (${known[1]})`;
}

/** What an error is when it crosses a thread or a process, where classes do not survive. */
export interface ErrorFacts {
  op: string;
  errno: number;
  subject?: string;
  reason?: string;
  hint?: string;
}

/**
 * Something the system refused, or that we refuse in its place.
 *
 * `op` is a word one can search for, `subject` what it was tried on, `reason` replaces the
 * errno's own words where we know better, `hint` says what to do next. An `errno` of 0 means
 * that the refusal is ours alone.
 */
export class SysError extends Error {
  readonly op: string;
  readonly errno: number;
  readonly subject: string | undefined;
  readonly reason: string | undefined;
  readonly hint: string | undefined;

  constructor(facts: ErrorFacts) {
    const why = facts.reason ?? errnoText(facts.errno);
    super([facts.op, facts.subject].filter((part) => part !== undefined).join(" ") + `: ${why}`);
    this.name = "SysError";
    this.op = facts.op;
    this.errno = facts.errno;
    this.subject = facts.subject;
    this.reason = facts.reason;
    this.hint = facts.hint;
  }

  /** The same error, with what the caller knows about the way out. An older hint is kept. */
  withHint(hint: string): SysError {
    return new SysError({ ...this.facts(), hint: this.hint ?? hint });
  }

  facts(): ErrorFacts {
    const facts: ErrorFacts = { op: this.op, errno: this.errno };
    if (this.subject !== undefined) facts.subject = this.subject;
    if (this.reason !== undefined) facts.reason = this.reason;
    if (this.hint !== undefined) facts.hint = this.hint;
    return facts;
  }
}

/** Answers what `action` does. An error of Node's own calls says `op` and `subject` then. */
export function trySys<T>(op: string, subject: string, action: () => T, hint?: string): T {
  try {
    return action();
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (error instanceof SysError || typeof errno !== "number") throw error;
    const failed = new SysError({ op, errno: Math.abs(errno), subject });
    throw hint === undefined ? failed : failed.withHint(hint);
  }
}

/** The facts of whatever was thrown, fit to cross a thread or a process. */
export function errorFacts(error: unknown): ErrorFacts {
  if (error instanceof SysError) return error.facts();
  const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { op: "internal error", errno: EIO, reason };
}
