// Runs programs of the host for the laboratory and says in one line what went wrong.

export class LabError extends Error {
  override name = "LabError";
}

export function note(line: string): void {
  process.stderr.write(`lab: ${line}\n`);
}

/** Runs a program: its status becomes ours; what the laboratory could not do is one line, and 1. */
export async function toTerminal(main: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await main();
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  }
}

interface HostOptions {
  cwd?: string;
  input?: string;
  env?: Record<string, string>;
}

/** Standard output of a program that has to succeed. */
export async function host(command: string[], options: HostOptions = {}): Promise<string> {
  findable(command);
  const child = Bun.spawn(command, {
    cwd: options.cwd ?? "/",
    env: { ...process.env, LC_ALL: "C", ...options.env },
    stdin: options.input === undefined ? "ignore" : new TextEncoder().encode(options.input),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, status] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  if (status !== 0) throw failure(command, status, stderr || stdout);
  return stdout;
}

/** A program whose progress the person at the terminal wants to see. */
export async function hostShown(command: string[], options: HostOptions = {}): Promise<void> {
  findable(command);
  const child = Bun.spawn(command, {
    cwd: options.cwd ?? "/",
    env: { ...process.env, LC_ALL: "C", ...options.env },
    stdio: ["ignore", 2, 2],
  });
  const status = await child.exited;
  if (status !== 0) throw failure(command, status, "see above");
}

function findable([program = ""]: string[]): void {
  if (Bun.which(program) === null) throw new LabError(`there is no program ${program} here`);
}

function failure(command: string[], status: number, output: string): LabError {
  const shown = command.join(" ");
  const short = shown.length > 200 ? `${shown.slice(0, 200)} …` : shown;
  return new LabError(`${short}: exit status ${status}: ${output.trim() || "no output"}`);
}
