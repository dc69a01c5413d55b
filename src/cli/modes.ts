/** The options of `add` that say how data and commands travel, and which of them exclude others. */

import type { AskedFeatures, Recovery } from "../control/features.ts";
import { parseSize, UsageError } from "../target/parse.ts";
import type { OptionValues } from "../target/target.ts";
import { type Mode, MODES } from "../target/thread_shape.ts";
import type { OptionTable, SwitchDef } from "./options.ts";

/** Where a copy becomes dearer than two more commands: measured, see src/README.md. */
const ZERO_COPY_MIN = "64K";

const COMP_IN_TASK: SwitchDef = {
  type: "boolean",
  alias: "u",
  takesBit: true,
  description: "ask for URING_CMD_COMP_IN_TASK (the driver always has it)",
};

const GET_DATA: SwitchDef = {
  type: "boolean",
  alias: "g",
  takesBit: true,
  description: "as --mode get-data: the driver copies a write when we ask for it",
};

const RECOVERY: SwitchDef = {
  type: "boolean",
  alias: "r",
  takesBit: true,
  description: "outlive the server: IO in flight fails when it dies, new IO waits for the next",
};

const REISSUE: SwitchDef = {
  type: "boolean",
  alias: "i",
  takesBit: true,
  description: "outlive the server, and IO in flight waits too",
};

const FAIL_IO: SwitchDef = {
  type: "boolean",
  alias: "e",
  takesBit: true,
  description: "outlive the server; all IO fails until the next (Linux 6.16)",
};

const RECOVERY_OPTIONS: OptionTable = {
  "user-recovery": RECOVERY,
  "user-recovery-reissue": REISSUE,
  "user-recovery-fail-io": FAIL_IO,
};

export const MODE_OPTIONS: OptionTable = {
  mode: {
    type: "string",
    valueHint: "MODE",
    description: `how data moves: ${MODES.join(", ")} (default: the best for the target)`,
  },
  "zero-copy": {
    type: "boolean",
    alias: "z",
    description: "the best zero copy that the kernel has",
  },
  usercopy: { type: "boolean", description: "as --mode user-copy: by pread and pwrite" },
  "get-data": GET_DATA,
  "zero-copy-min": {
    type: "string",
    valueHint: "SIZE",
    description: `with --mode zero-copy: copy smaller requests (default ${ZERO_COPY_MIN})`,
  },
  batch: { type: "boolean", alias: "b", description: "commands in batches (Linux 7.0)" },
  "poll-us": {
    type: "string",
    valueHint: "N",
    description: "look for work this many microseconds before sleeping (default 0)",
  },
  "comp-in-task": COMP_IN_TASK,
  unprivileged: {
    type: "boolean",
    description: "as an ordinary user: the device is yours (see ublk udev-rules)",
  },
  ...RECOVERY_OPTIONS,
};

/** Options that each name a mode; a device has one. */
const NAMING = ["mode", "zero-copy", "usercopy", "get-data"];

const spelled = (name: string): string => {
  const alias = MODE_OPTIONS[name]?.alias;
  return alias === undefined ? `--${name}` : `-${alias}`;
};

/** Refuses combinations that the driver would silently change or answer with EINVAL. */
export function askedFeatures(values: OptionValues, splitQueues: boolean): AskedFeatures {
  const given = NAMING.filter((name) => values[name] !== undefined && values[name] !== false);
  if (given.length > 1) {
    const names = given.map(spelled);
    throw new UsageError(`${names.join(" and ")} exclude each other: each names a way of its own`);
  }
  const mode = namedMode(values);
  const batch = values["batch"] === true;
  if (batch && mode === "get-data") {
    throw new UsageError("-b and -g exclude each other: batch commands have no NEED_GET_DATA");
  }
  if (batch && splitQueues) {
    throw new UsageError("-b: a queue of batch commands has one thread; give no more --threads");
  }
  if (values["zero-copy-min"] !== undefined && mode !== "zero-copy") {
    throw new UsageError("--zero-copy-min is for --mode zero-copy");
  }
  const compInTask = values["comp-in-task"] !== false;
  const noPartScan = values["no-auto-part-scan"] === true;
  const recovery = askedRecovery(values);
  const unprivileged = values["unprivileged"] === true;
  if (unprivileged) refuseForOrdinaryUsers(mode, values);
  return { mode, batch, compInTask, splitQueues, noPartScan, recovery, unprivileged };
}

/** What the driver answers with EINVAL on an ordinary user's device, or silently takes away. */
function refuseForOrdinaryUsers(mode: AskedFeatures["mode"], values: OptionValues): void {
  const needing = [...Object.keys(RECOVERY_OPTIONS), "supervise", "or-recover"];
  const recovery = needing.find((name) => values[name] === true);
  if (recovery !== undefined) {
    const why = "the driver keeps no ordinary user's device without its server";
    throw new UsageError(`--unprivileged and ${spelled(recovery)} exclude each other: ${why}`);
  }
  if (mode === "choose" || mode === "copy" || mode === "get-data") return;
  const name = NAMING.find((option) => values[option] === true);
  const what = name === undefined ? `--mode ${mode}` : spelled(name);
  const why = "the driver lets ordinary users copy only";
  throw new UsageError(`--unprivileged and ${what} exclude each other: ${why}`);
}

function askedRecovery(values: OptionValues): Recovery {
  const [recovery, reissue, fail] = Object.keys(RECOVERY_OPTIONS).map((name) => values[name]);
  if (reissue === true && fail === true) {
    throw new UsageError("-i and -e exclude each other: IO without a server waits, or it fails");
  }
  const other = reissue === true ? "-i" : "-e";
  if (recovery === false && (reissue === true || fail === true)) {
    throw new UsageError(`-r 0 and ${other} exclude each other: ${other} is a kind of recovery`);
  }
  if (reissue === true) return "reissue";
  if (fail === true) return "fail";
  return recovery === true ? "wait" : "none";
}

function namedMode(values: OptionValues): AskedFeatures["mode"] {
  if (values["zero-copy"] === true) return "zero-copy-best";
  if (values["usercopy"] === true) return "user-copy";
  if (values["get-data"] === true) return "get-data";
  const name = values["mode"];
  if (name === undefined) return "choose";
  if (MODES.includes(name as Mode)) return name as Mode;
  throw new UsageError(`--mode '${name}': there is no such mode; there are ${MODES.join(", ")}`);
}

export function zeroCopyMin(values: OptionValues): number {
  return parseSize("--zero-copy-min", String(values["zero-copy-min"] ?? ZERO_COPY_MIN));
}
