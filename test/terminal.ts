/** Runs our command line on a terminal of its own, with somebody who types. */

import { join } from "node:path";

const MAIN = join(import.meta.dir, "../src/main.ts");

export interface Sat {
  code: number;
  /** All that appeared on the terminal. */
  shown: string;
}

type Typing = (terminal: Bun.Terminal, child: Bun.Subprocess, soFar: () => string) => Promise<void>;

/** `typing` begins when something has appeared. */
export async function atTerminal(
  words: string[],
  typing?: Typing,
  env: Record<string, string> = {},
): Promise<Sat> {
  let shown = "";
  const begun = Promise.withResolvers<void>();
  const child = Bun.spawn([process.execPath, MAIN, ...words], {
    env: { ...plainEnvironment(), ...env },
    terminal: {
      cols: 60,
      rows: 10,
      data(_, bytes) {
        shown += new TextDecoder().decode(bytes);
        begun.resolve();
      },
    },
  });
  await Promise.race([begun.promise, child.exited]);
  await typing?.(child.terminal!, child, () => shown);
  const code = await child.exited;
  child.terminal!.close();
  return { code, shown };
}

/** As a person has it at a terminal, not as CI does. */
function plainEnvironment(): Record<string, string | undefined> {
  const { NO_COLOR: _, FORCE_COLOR: __, CI: ___, ...rest } = process.env;
  return { ...rest, TERM: "xterm" };
}
