// What a story can do with a machine, whether that is a guest or the host itself.

import type { Output, Result, Sent } from "./lane.ts";
import { LabError } from "./host.ts";
import { type Argument, quote, script } from "./quote.ts";

export type { Result } from "./lane.ts";
export { raw } from "./quote.ts";

type Template = [text: TemplateStringsArray | string, ...args: Argument[]];

/** A command in the background. */
export interface Started {
  /** Its result, whatever that is. */
  wait: () => Promise<Result>;
  /** Its standard output, once it has ended with status 0. */
  succeeds: () => Promise<string>;
  /** Sends a signal, such as "TERM", to the command and its children. */
  signal: (name: string) => Promise<void>;
  /** What it has written so far. */
  soFar: () => Omit<Result, "status">;
}

const SHOWN_OUTPUT = 6000;

/** The machine is gone or cannot do something: no result will come. */
export class MachineError extends Error {
  override name = "MachineError";
}

export class CommandError extends Error {
  override name = "CommandError";
  readonly #result: Result; // private, because an error is printed with its public fields

  constructor(command: string, result: Result, why = `exit status ${result.status}`) {
    const said = [result.stdout, result.stderr].map((text) => text.trimEnd().slice(-SHOWN_OUTPUT));
    super([`${command.trim()}: ${why}`, ...said.filter((text) => text !== "")].join("\n"));
    this.#result = result;
  }

  get result(): Result {
    return this.#result;
  }
}

export abstract class Vm {
  /** The line of kernels, such as "7.2"; "host" for the kernel that runs. */
  abstract readonly kernel: string;
  /** A folder on a real file system, for images. */
  abstract readonly data: string;
  /** A block device that nobody uses. */
  abstract readonly spare: string;
  /** Our programs run at the processor's own speed, in User-mode Linux. */
  readonly native: boolean = false;
  /** Seconds that one command may take. */
  patience = 120;

  #running = new Set<Sent>();

  /** Runs a script; see `Lane.send`. */
  protected abstract send(text: string, live: Output): Promise<Sent>;
  /** Runs a script past everything that is stuck. */
  abstract harness(text: string): Promise<Result>;
  /** Settles when the machine ends, saying why. */
  protected abstract readonly ended: Promise<string>;
  /** Ends the machine at once, like a power cut. Its disks stay as they are. */
  abstract pullThePlug(): Promise<void>;
  /** Boots it again with the same disks. */
  abstract reboot(): Promise<void>;
  abstract close(): Promise<void>;

  /** Trimmed standard output of a script; throws unless its status is 0. */
  async sh(...[text, ...args]: Template): Promise<string> {
    const command = script(text, ...args);
    return succeeded(command, await this.#run(command));
  }

  /** The result of a script, whatever that is. */
  async run(...[text, ...args]: Template): Promise<Result> {
    return this.#run(script(text, ...args));
  }

  /** Runs a script while the story goes on. */
  start(...[text, ...args]: Template): Started {
    const command = script(text, ...args);
    const sent = this.#send(command);
    let result: Promise<Result> | undefined;
    const wait = () => (result ??= sent.then((one) => this.#finish(command, one)));
    let known: Sent | undefined;
    void sent.then((one) => (known = one));
    return {
      wait,
      succeeds: async () => succeeded(command, await wait()),
      signal: async (name) => this.#signal(await (await sent).pid, name),
      soFar: () => known?.soFar() ?? { stdout: "", stderr: "" },
    };
  }

  /** Runs a script, passing its output on as it comes. */
  live(...[text, ...args]: Template): Promise<Result> {
    return this.#run(script(text, ...args), {
      stdout: (bytes) => void process.stdout.write(bytes),
      stderr: (bytes) => void process.stderr.write(bytes),
    });
  }

  /** Shows a command and its output to whoever sits at the terminal. */
  async show(...[text, ...args]: Template): Promise<string> {
    const command = script(text, ...args).trim();
    process.stdout.write(`$ ${command}\n`);
    const result = await this.live(command);
    if (result.status === 0) return result.stdout.trim();
    throw new LabError(`${command}: exit status ${result.status}`);
  }

  /** Writes a small file, with the folders it needs. */
  async write(path: string, content: string | Uint8Array): Promise<void> {
    const base64 = Buffer.from(content).toString("base64").replaceAll(/.{76}/g, "$&\n");
    const into = `base64 --decode > ${quote(path)}`;
    await this.sh(`mkdir -p "$(dirname ${quote(path)})" && ${into} <<'END'\n${base64}\nEND`);
  }

  async read(path: string): Promise<string> {
    return succeeded(`cat ${path}`, await this.#run(`cat -- ${quote(path)}`), false);
  }

  /** Creates a device and answers with its id. */
  async add(...[text, ...args]: Template): Promise<number> {
    const printed = await this.sh(`ublk add ${script(text, ...args)}`);
    const id = /dev id (\d+):/.exec(printed)?.[1];
    if (id === undefined) throw new MachineError(`ublk add printed no "dev id N:"\n${printed}`);
    return Number(id);
  }

  async daemonPid(id: number): Promise<number> {
    return Number(/daemon pid (-?\d+)/.exec(await this.sh(`ublk list -n ${id}`))?.[1]);
  }

  /** Waits until `ublk list` says that a device is in this state. */
  async becomes(id: number, state: string, timeoutMs = 90_000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const { stdout, stderr } = await this.#run(`ublk list -n ${id}`);
      const now = / state (\w+)/.exec(stdout)?.[1];
      if (now === state) return;
      if (Date.now() > deadline) {
        const seen = now ?? `unknown: ${stdout}${stderr}`.trim();
        throw new MachineError(`device ${id} is not ${state} after ${timeoutMs} ms but ${seen}`);
      }
      await Bun.sleep(100);
    }
  }

  /** Why something hangs: blocked tasks with their stacks, and the kernel's last words. */
  async diagnosis(): Promise<string> {
    const ask = this.harness("echo w > /proc/sysrq-trigger; sleep 0.2; dmesg | tail -n 120");
    const silent = Bun.sleep(20_000).then(() => undefined);
    const answer = await Promise.race([ask.catch(() => undefined), silent]);
    return answer ? answer.stdout : "and the machine no longer answers";
  }

  /** Kills what the story left running in the background. */
  async killStarted(): Promise<void> {
    for (const sent of this.#running) await this.#signal(await sent.pid, "KILL");
  }

  async #run(command: string, live: Output = {}): Promise<Result> {
    return this.#finish(command, await this.#send(command, live));
  }

  async #send(command: string, live: Output = {}): Promise<Sent> {
    const sent = await this.send(command, live);
    this.#running.add(sent);
    void sent.result.then(() => this.#running.delete(sent));
    void this.ended.then(() => this.#running.delete(sent));
    return sent;
  }

  async #finish(command: string, sent: Sent): Promise<Result> {
    const late = Promise.withResolvers<"late">();
    const timer = setTimeout(() => late.resolve("late"), this.patience * 1000);
    const result = await Promise.race([sent.result, this.ended, late.promise]);
    clearTimeout(timer);
    if (typeof result === "object") return result;
    const soFar = { status: -1, ...sent.soFar() };
    if (result !== "late") throw new CommandError(command, soFar, `the machine ended: ${result}`);
    const diagnosis = await this.diagnosis();
    void this.#signal(await sent.pid, "KILL");
    const why = `not finished after ${this.patience} s\n${diagnosis}\nits output was:`;
    throw new CommandError(command, soFar, why);
  }

  async #signal(pid: number, name: string): Promise<void> {
    const { status, stderr } = await this.harness(`kill -${quote(name)} -- -${pid}`);
    if (status !== 0 && name !== "KILL") throw new MachineError(`kill -${name}: ${stderr.trim()}`);
  }
}

function succeeded(command: string, result: Result, trim = true): string {
  if (result.status !== 0) throw new CommandError(command, result);
  return trim ? result.stdout.trim() : result.stdout;
}
