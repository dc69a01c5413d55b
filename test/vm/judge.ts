/**
 * Who judges a disk whose server dies. Runs in the guest, by the Bun inside of the executable.
 *
 *     judge.ts fill FILE LOG      every second 64 KiB of a new image get their first generation
 *     judge.ts write DISK LOG     writes blocks until SIGTERM, whatever fails
 *     judge.ts verify DISK LOG    says what it found, as JSON; DISK may be `-`: it keeps nothing
 *
 * The log has a line for each event: `i BLOCK GENERATION` before a block is written, `a …` when
 * that was acknowledged, `e … CODE` when it failed, the last two with the time in milliseconds. The
 * story adds `may` when errors are permitted from then on, and `must` when they no longer are.
 */

import { ptr } from "bun:ffi";
import * as fs from "node:fs";

const BLOCK = 4096;
const BLOCKS = 4096;
/** Half of the writes go to so few, which therefore see many generations. */
const HOT = 64;
export const IN_FLIGHT = 4;
const FILLED = 16;
/** A disk that is gone answers at once. */
const AFTER_ERROR_MS = 50;

export interface Verdict {
  /** Writes; what the image held before is not counted. */
  acknowledged: number;
  /** How many writes failed, by the error's name. */
  errors: Record<string, number>;
  /** Errors where there must be none, and blocks that hold what they must not. */
  wrong: string[];
  /** The longest time in which no write ended. */
  stillMs: number;
  /** Acknowledged after the last change of what is permitted. */
  since: number;
}

/** 32 bytes over and over, so that no part of a block can be of another generation unseen. */
export const textOf = (block: number, generation: number): string =>
  `block ${String(block).padStart(8)} holds ${String(generation).padStart(10)}\n`;

/** For O_DIRECT. */
function aligned(length: number): Buffer {
  const memory = new ArrayBuffer(length + BLOCK);
  const skew = Number(ptr(new Uint8Array(memory))) % BLOCK;
  return Buffer.from(memory, (BLOCK - skew) % BLOCK, length);
}

export function fill(file: string, log: string): void {
  const content = Buffer.alloc(BLOCKS * BLOCK);
  const lines: string[] = [];
  for (let block = 0; block < BLOCKS; block++) {
    if (block % (2 * FILLED) >= FILLED) continue;
    content.fill(textOf(block, 1), block * BLOCK, (block + 1) * BLOCK);
    lines.push(`i ${block} 1\na ${block} 1 0\n`);
  }
  fs.writeFileSync(file, content);
  fs.writeFileSync(log, lines.join(""));
}

async function write(disk: string, log: string): Promise<void> {
  const issued = new Map<number, number>();
  for (const { block, generation } of events(log)) issued.set(block, generation);
  const to = fs.openSync(disk, fs.constants.O_WRONLY | fs.constants.O_DIRECT);
  const noted = fs.openSync(log, "a");
  const note = (line: string): unknown => fs.writeSync(noted, `${line}\n`);
  const busy = new Set<number>();
  const ending = new AbortController();
  process.on("SIGTERM", () => ending.abort());
  const writeOn = async (): Promise<void> => {
    const buffer = aligned(BLOCK);
    while (!ending.signal.aborted) {
      const block = anyBut(busy);
      const generation = (issued.get(block) ?? 0) + 1;
      issued.set(block, generation);
      busy.add(block);
      note(`i ${block} ${generation}`);
      const code = await writeBlock(to, buffer.fill(textOf(block, generation)), block * BLOCK);
      const what = `${block} ${generation} ${Math.round(performance.now())}`;
      note(code === undefined ? `a ${what}` : `e ${what} ${code}`);
      busy.delete(block);
      if (code !== undefined) await Bun.sleep(AFTER_ERROR_MS);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, writeOn));
  process.exit();
}

function anyBut(busy: Set<number>): number {
  for (;;) {
    const block = Math.floor(Math.random() * (Math.random() < 0.5 ? HOT : BLOCKS));
    if (!busy.has(block)) return block;
  }
}

/** The error's name; undefined when the block was written. */
function writeBlock(fd: number, buffer: Buffer, offset: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    fs.write(fd, buffer, 0, BLOCK, offset, (error, length) =>
      resolve(error ? String(error.code) : length === BLOCK ? undefined : "short"),
    );
  });
}

interface Event {
  kind: string;
  block: number;
  generation: number;
  ms: number;
  code: string;
}

function events(log: string): Event[] {
  const lines = fs.readFileSync(log, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => {
    const [kind = "", block, generation, ms, code = ""] = line.split(" ");
    return { kind, block: Number(block), generation: Number(generation), ms: Number(ms), code };
  });
}

/** What is known of a block: it holds the last generation that was acknowledged, or a later one. */
interface Known {
  acknowledged: number;
  issued: number;
  /** How often errors had been permitted when the last write began; its end may see one more. */
  permits: number;
  permitted: boolean;
}

export function verify(disk: string, log: string): Verdict {
  const verdict: Verdict = { acknowledged: 0, errors: {}, wrong: [], stillMs: 0, since: 0 };
  const blocks = Array.from({ length: BLOCKS }, (): Known => ({
    acknowledged: 0,
    issued: 0,
    permits: 0,
    permitted: false,
  }));
  let permits = 0;
  let permitted = false;
  let last: number | undefined;
  for (const { kind, block, generation, ms, code } of events(log)) {
    const known = blocks[block]!;
    if (kind === "may" || kind === "must") {
      permitted = kind === "may";
      if (permitted) permits++;
      verdict.since = 0;
      continue;
    }
    if (kind === "i") {
      Object.assign(known, { issued: generation, permits, permitted });
      continue;
    }
    if (ms > 0) verdict.stillMs = Math.max(verdict.stillMs, ms - (last ?? ms));
    if (ms > 0) last = ms;
    if (kind === "a") {
      known.acknowledged = generation;
      if (ms > 0) verdict.acknowledged++;
      verdict.since++;
      continue;
    }
    verdict.errors[code] = (verdict.errors[code] ?? 0) + 1;
    if (known.permitted || permits > known.permits) continue;
    verdict.wrong.push(`block ${block}, generation ${generation}: ${code} at ${ms} ms`);
  }
  if (disk !== "-") verdict.wrong.push(...contents(disk, blocks));
  return verdict;
}

function contents(disk: string, blocks: readonly Known[]): string[] {
  const wrong: string[] = [];
  const fd = fs.openSync(disk, fs.constants.O_RDONLY | fs.constants.O_DIRECT);
  const piece = aligned(FILLED * BLOCK);
  for (const [block, { acknowledged, issued }] of blocks.entries()) {
    if (block % FILLED === 0) fs.readSync(fd, piece, 0, piece.length, block * BLOCK);
    const at = (block % FILLED) * BLOCK;
    const found = piece.subarray(at, at + BLOCK);
    const generation = Number(/ holds +(\d+)\n/.exec(found.toString("latin1", 0, 32))?.[1] ?? 0);
    const whole = Buffer.alloc(BLOCK, generation === 0 ? "\0" : textOf(block, generation));
    if (found.equals(whole) && generation >= acknowledged && generation <= issued) continue;
    const what = found.equals(whole) ? `generation ${generation}` : "what nobody wrote";
    wrong.push(`block ${block} holds ${what}, of ${issued} with ${acknowledged} acknowledged`);
  }
  fs.closeSync(fd);
  return wrong;
}

if (import.meta.main) {
  const [verb, disk = "", log = ""] = process.argv.slice(2);
  if (verb === "fill") fill(disk, log);
  else if (verb === "write") await write(disk, log);
  else console.log(JSON.stringify(verify(disk, log)));
}
