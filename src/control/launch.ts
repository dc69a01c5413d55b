/**
 * Starts the daemon: ourselves again, detached, and waits for its word.
 *
 * The environment of whoever typed the command does not reach a daemon that runs as root, and
 * neither do descriptors, the terminal, the current directory or the mount namespace.
 */

import { closeSync, writeSync } from "node:fs";
import { constants } from "node:os";
import { EIO, type ErrorFacts, errorFacts, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import { isSystemRoot } from "./caller.ts";
import type { DaemonPlan } from "./daemon.ts";
import {
  DAEMON_VERB,
  END_VERB,
  FOREGROUND,
  SUPERVISE_VERB,
  TIED_VERB,
  type Voice,
  wordOf,
} from "./hidden_verbs.ts";
import { enterOwnMountNamespace, OWN_NAMESPACE, withMountsKept } from "./isolate.ts";
import type { Identity } from "./nodes.ts";
import { keepSecret, packSecret } from "./secret.ts";

/** The daemon says how it goes here, a line of JSON each. */
const ANSWER_FD = 3;
const STDERR_FD = 2;

type Answer = { waiting: string } | { live: number } | { failed: ErrorFacts };

const ENVIRONMENT_KEPT = [
  "PATH",
  "LANG",
  "LC_ALL",
  "TZ",
  "NOTIFY_SOCKET",
  "JOURNAL_STREAM",
  "XDG_RUNTIME_DIR",
];

/** For the runtime: nobody looks for garbage by the clock. Serving makes none. */
const RUNTIME_OPTIONS = { BUN_GC_TIMER_DISABLE: "1" };

/** Ourselves, also after the file was replaced or its file system is no longer mounted here. */
const SELF = "/proc/self/exe";
const SCRIPT = Bun.isStandaloneExecutable ? [] : [Bun.main];

/** Beside the plan: a passphrase, and who is told what takes long. */
export interface LaunchOptions {
  secret?: string | undefined;
  waiting?: (line: string) => void;
  /** Not the server itself but who watches over it and its successors. */
  supervised?: boolean;
  /** There will be other servers after this one. */
  again?: boolean;
  /** An open executable other than our own. */
  program?: number;
}

/** Starts a daemon and answers the id of its device once the block device exists. */
export async function launch(plan: DaemonPlan, options: LaunchOptions = {}): Promise<number> {
  const { secret, waiting } = options;
  const secretFd = secret === undefined ? undefined : packSecret(secret);
  const start = (): Child => startProcess(plan, secretFd, options);
  // Each server opens its files among the mounts of the caller, also the one after this.
  const child = options.again ? withMountsKept(start) : start();
  if (secretFd !== undefined) libc.close(secretFd);
  const fd = child.stdio[ANSWER_FD];
  if (typeof fd !== "number") throw new Error("the daemon's answer has no descriptor");
  try {
    return await liveDevice(child, fd, waiting);
  } finally {
    closeSync(fd); // the runtime leaves it to us
  }
}

/** What the daemon says on `fd`, to the end: the device's id, or why there is none. */
async function liveDevice(
  child: Child,
  fd: number,
  waiting: LaunchOptions["waiting"],
): Promise<number> {
  for await (const answer of answers(fd)) {
    if ("waiting" in answer) {
      waiting?.(answer.waiting);
      continue;
    }
    child.unref();
    if ("live" in answer) return answer.live;
    await child.exited; // nothing of a failed start is left when we say that it failed
    throw new SysError(answer.failed);
  }
  await child.exited;
  const how = child.signalCode ?? `exit code ${child.exitCode}`;
  const said = (await new Response(child.stderr).text()).trim();
  const reason = `ended with ${how} before it was ready${said === "" ? "" : `: ${said}`}`;
  throw new SysError({ op: "daemon", errno: EIO, reason });
}

type Child = ReturnType<typeof startProcess>;

function startProcess(plan: DaemonPlan, secretFd: number | undefined, options: LaunchOptions) {
  const { supervised = false, program } = options;
  const verb = supervised ? SUPERVISE_VERB : DAEMON_VERB;
  promiseNoWaiting();
  // By our number: in the child, low descriptors are its own already.
  const self = program === undefined ? SELF : `/proc/${process.pid}/fd/${program}`;
  return Bun.spawn([self, ...selfArguments(verb, plan)], {
    argv0: process.execPath,
    cwd: "/",
    env: { ...(supervised ? keptEnvironment() : daemonEnvironment(plan)), ...RUNTIME_OPTIONS },
    detached: true,
    stdio: [secretFd ?? "ignore", "ignore", "pipe", "pipe"],
  });
}

/**
 * For whoever is started by this thread, with all of its threads: memory is never got by writing to
 * a disk, as that may be the one it serves. A collector that waited for such a write, or a thread
 * that held the lock of the address space, would keep the queue's thread from serving it.
 */
function promiseNoWaiting(): void {
  try {
    libc.setIoFlusher();
  } catch {
    // each queue's thread tries it again, and says what follows
  }
}

async function* answers(fd: number): AsyncGenerator<Answer> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of Bun.file(fd).stream()) {
    text += decoder.decode(bytes, { stream: true });
    const lines = text.split("\n");
    text = lines.pop()!;
    for (const line of lines) yield JSON.parse(line) as Answer;
  }
}

/** Becomes the daemon, in the foreground: same process id, same terminal. Never returns. */
export function become(plan: DaemonPlan, speaking: Voice, secret?: string): never {
  if (secret !== undefined) keepSecret(secret);
  const words = [...selfArguments(DAEMON_VERB, plan), FOREGROUND, JSON.stringify(speaking)];
  const argv = [process.execPath, ...words];
  process.chdir("/"); // else the caller's directory could not be unmounted
  promiseNoWaiting();
  process.execve?.(SELF, argv, { ...daemonEnvironment(plan), ...RUNTIME_OPTIONS });
  throw new SysError({ op: "execve", errno: EIO, reason: "returned" });
}

/** A server that ends, and deletes its device, when we end: even by SIGKILL. */
export interface Tied {
  /** The device's id; undefined when there will be none, and the reason has been said. */
  live: Promise<number | undefined>;
  /** Resolves to the signal that ended it, if one did. */
  ended: Promise<NodeJS.Signals | null>;
  stop(): void;
}

/** `words`: options of `add`. In a session of its own, where our terminal's ^C does not reach. */
export function startTied(words: readonly string[]): Tied {
  const child = Bun.spawn([SELF, ...SCRIPT, TIED_VERB, String(process.pid), ...words], {
    argv0: process.execPath,
    detached: true,
    stdio: [process.stdin.isTTY ? "inherit" : "ignore", "pipe", "inherit"],
  });
  const live = firstLine(child.stdout).then((line) =>
    line === "" ? undefined : (JSON.parse(line) as { dev_id: number }).dev_id,
  );
  const ended = child.exited.then(() => child.signalCode as NodeJS.Signals | null);
  return { live, ended, stop: () => child.kill("SIGTERM") };
}

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    if (text.includes("\n")) return text.slice(0, text.indexOf("\n"));
  }
  return "";
}

/** In a tied server: SIGTERM comes when `parent`, the process that started us, is gone. */
export function tie(parent: number): void {
  libc.prctl(libc.PR_SET_PDEATHSIG, constants.signals.SIGTERM, "prctl PR_SET_PDEATHSIG");
  if (process.ppid !== parent) process.exit(1); // it was faster
}

/**
 * Starts a process that stops and deletes the device, and resolves when it has done so.
 *
 * Not we ourselves: STOP_DEV waits for requests that are in our hands, inside a kernel thread that
 * belongs to whoever sent it. Were we killed meanwhile, that thread would keep our files open and
 * the driver from failing those requests; neither would ever end.
 */
export async function startEnder({ id, incarnation }: Identity): Promise<void> {
  const child = Bun.spawn([SELF, ...SCRIPT, END_VERB, String(id), String(incarnation)], {
    argv0: process.execPath,
    cwd: "/",
    env: keptEnvironment(),
    detached: true,
    stdio: ["ignore", "ignore", "ignore"],
  });
  if ((await child.exited) === 0) return;
  throw new SysError({ op: "end", errno: EIO, reason: `ended with ${child.exitCode}` });
}

function selfArguments(verb: string, plan: DaemonPlan): string[] {
  return [...SCRIPT, verb, wordOf(plan)];
}

function daemonEnvironment(plan: DaemonPlan): Record<string, string> {
  // In a container the nodes of the device are mounted into the namespace of whoever adds it.
  const stays = "features" in plan && plan.features.unprivileged && !isSystemRoot();
  const own = !stays && enterOwnMountNamespace() ? { [OWN_NAMESPACE]: "1" } : {};
  return { ...keptEnvironment(), ...own };
}

function keptEnvironment(): Record<string, string> {
  const kept = ENVIRONMENT_KEPT.map((name) => [name, process.env[name]] as const);
  return Object.fromEntries(kept.filter(([, value]) => value !== undefined)) as Record<
    string,
    string
  >;
}

/** In the daemon: the block device exists; from here on nobody listens. False: nobody did. */
export function answerLive(id: number): boolean {
  const heard = answer({ live: id });
  closeSync(ANSWER_FD);
  // By its number: asking process.stderr for it would make a copy that stays.
  const nowhere = libc.open("/dev/null", libc.O_RDWR);
  libc.dup2(nowhere, STDERR_FD);
  libc.close(nowhere);
  return heard;
}

/** In the daemon: there will be no device, and nothing of it is left. */
export function answerFailed(error: unknown): void {
  answer({ failed: errorFacts(error) });
  closeSync(ANSWER_FD);
}

/** In the daemon: it goes on, but somebody has to be waited for. */
export function answerWaiting(line: string): void {
  answer({ waiting: line });
}

/** The second where something that was said before has not been read. */
const NOBODY = new Set(["EPIPE", "ECONNRESET"]);

/** Answers false when whoever started us has gone: what follows from that is not decided here. */
function answer(what: Answer): boolean {
  try {
    writeSync(ANSWER_FD, `${JSON.stringify(what)}\n`);
    return true;
  } catch (error) {
    if (!NOBODY.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
    return false;
  }
}

/** Instead of the runtime's own, which after execve(2) is "exe". */
export function nameProcess(name = "ublk"): void {
  libc.setThreadName(name);
}
