/** The words on the command line of `bun run bench`. */

import { parseArgs } from "node:util";
import { LabError } from "../vm/host.ts";

export const USAGE = `bun run bench [options]     measure ublk against what one would take instead

--rounds N        rounds, each with every contestant in turn (default 5)
--minutes N       for everything: decides how long one measurement is, and ends the rounds early
                  when the machine is slower than expected (default 60)
--quick           for development: a few contestants, one round, short runs
--only PATTERN    only what matches: a regular expression, tried on SECTION/CONTESTANT/WORKLOAD
--seconds N       length of one measurement, instead of what --minutes allows
--kernel LINE     default 7.2
--no-build        measure dist/ublk as it is
--from FILE       no measuring: the report of the raw numbers in FILE
--out DIR         where RESULTS.md and results.svg go (default: test/bench, or with --quick or
                  --only a folder of the cache, because those are no results)
--native          instead: the user CPU of null at the processor's own speed, in User-mode Linux,
                  which is built first; some ten minutes; writes NATIVE.md
--list            name everything that would be measured`;

export interface Options {
  rounds: number;
  minutes: number;
  quick: boolean;
  only: RegExp | undefined;
  seconds: number | undefined;
  kernel: string;
  from: string | undefined;
  out: string | undefined;
  build: boolean;
  list: boolean;
  native: boolean;
}

const WORDS = {
  rounds: { type: "string" },
  minutes: { type: "string", default: "60" },
  quick: { type: "boolean", default: false },
  only: { type: "string" },
  seconds: { type: "string" },
  kernel: { type: "string", default: "7.2" },
  from: { type: "string" },
  out: { type: "string" },
  "no-build": { type: "boolean", default: false },
  list: { type: "boolean", default: false },
  native: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
} as const;

export function parseOptions(args: string[]): Options | undefined {
  const { values } = words(args);
  if (values.help) return undefined;
  if (values.native && values.from !== undefined) {
    throw new LabError(`--native and --from exclude each other\n${USAGE}`);
  }
  return {
    rounds: number("rounds", values.rounds ?? (values.quick ? "1" : "5"), 1),
    minutes: number("minutes", values.minutes, 1),
    quick: values.quick,
    only: values.only === undefined ? undefined : new RegExp(values.only),
    seconds: values.seconds === undefined ? undefined : number("seconds", values.seconds, 0.2),
    kernel: values.kernel,
    from: values.from,
    out: values.out,
    build: !values["no-build"],
    list: values.list,
    native: values.native,
  };
}

function words(args: string[]) {
  try {
    return parseArgs({ args, options: WORDS, strict: true, allowPositionals: false });
  } catch (error) {
    throw new LabError(`${error instanceof Error ? error.message : error}\n${USAGE}`);
  }
}

function number(name: string, text: string, least: number): number {
  const value = Number(text);
  if (value >= least) return value;
  throw new LabError(`--${name} ${text}: give a number, ${least} at least\n${USAGE}`);
}
