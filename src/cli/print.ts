/** The text of `list` and `add`, in the form that scripts written for ublksrv read. */

import type { FlagNames } from "../control/features.ts";
import { isUnread, writeAll } from "../control/output.ts";
import type { DeviceView } from "../control/view.ts";

const STDOUT = 1;
const STDERR = 2;
/** What a shell shows for a program that SIGPIPE ended, as it would end others here. */
const EXIT_SIGPIPE = 141;

/**
 * All of `text` to standard output; ends the program quietly when nobody reads on. `hint`: what to
 * do when it cannot be written.
 */
export function print(text: string, hint?: string): void {
  try {
    writeAll(STDOUT, text, "standard output", hint);
  } catch (error) {
    if (isUnread(error)) process.exit(EXIT_SIGPIPE);
    throw error;
  }
}

/**
 * `text` to standard error. What is said there goes with an exit status, which is the same whether
 * or not it can be said.
 */
export function note(text: string): void {
  try {
    writeAll(STDERR, text);
  } catch {
    // nobody is left to be told
  }
}

/**
 * Scripts pick lines by these words and then fields by number, so they stand in one line each.
 * Inside the target's JSON, where a path may hold them, their first letter is written as \uXXXX.
 * JSON's own escapes are passed over as pairs: a form feed before "lags" is no word. It leaves
 * half of the control characters as they are, which a terminal would obey.
 */
const RESERVED = /\\[^u]|pid|state|queue|dev id|flags|ublkc|[\u007f-\u009f]/g;

export function deviceBlock(view: DeviceView): string {
  const lines = [
    `dev id ${view.dev_id}: nr_hw_queues ${view.nr_hw_queues} queue_depth ${view.queue_depth} ` +
      `block size ${view.logical_block_size} dev_capacity ${view.dev_sectors}`,
    `\tmax rq size ${view.max_io_buf_bytes} daemon pid ${view.ublksrv_pid} state ${view.state}`,
    `\tflags 0x${view.flags.toString(16)} [ ${view.flag_names.join(" ")} ]`,
    `\tublkc: ${view.char_major}:${view.char_minor} ublkb: ${view.disk_major}:${view.disk_minor} ` +
      `owner: ${view.owner_uid}:${view.owner_gid}`,
    ...view.queues.map(
      (queue) => `\tqueue ${queue.q_id}: tid ${queue.tid} affinity(${cpuList(queue.affinity)})`,
    ),
    `\ttarget ${JSON.stringify(fileFirst(view.target)).replace(RESERVED, escapeFirst)}`,
  ];
  return `${lines.join("\n")}\n`;
}

/** As ublksrv has it, whose test scripts take the first value of the line. */
function fileFirst(target: DeviceView["target"]): DeviceView["target"] {
  const { backing_file: file, ...rest } = target;
  return file === undefined ? target : { backing_file: file, ...rest };
}

function cpuList(cpus: number[]): string {
  return cpus.map((cpu) => `${cpu} `).join("");
}

function escapeFirst(word: string): string {
  if (word.startsWith("\\")) return word === "\\f" ? "\\u000c" : word;
  return `\\u${word.charCodeAt(0).toString(16).padStart(4, "0")}${word.slice(1)}`;
}

const MASK_WIDTH = 10;
const WORD_WIDTH = 23;

/** Scripts look for the word, or for the name that the kernel has for it. */
export function featureList(features: bigint, flags: readonly FlagNames[]): string {
  const lines = flags.map(({ mask, word, name }) => {
    const bit = `0x${mask.toString(16)}`.padEnd(MASK_WIDTH);
    return `${bit}: ${word.padEnd(WORD_WIDTH)} ${name}`.trimEnd();
  });
  return `ublk_drv features: 0x${features.toString(16)}\n${lines.join("\n")}\n`;
}
