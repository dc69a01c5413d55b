/** A simulated backing file: executes SQEs late, in any order, and not always well. */

import { EAGAIN, EINTR, EINVAL, EIO, EOPNOTSUPP } from "./errno.ts";
import type { Pages } from "./buffers.ts";
import type { Memory } from "./memory.ts";
import { Platter } from "./platter.ts";
import type { Random } from "./random.ts";
import type { Done, SimFile } from "./ring.ts";
import type { Sqe } from "./sqe.ts";

export const FSYNC = 3;
export const FALLOCATE = 17;
const READ_FIXED = 4;
const WRITE_FIXED = 5;
export const READ = 22;
export const WRITE = 23;
const DSYNC = 0x2;
const KEEP_SIZE = 0x01;
const PUNCH_HOLE = 0x02;
const ZERO_RANGE = 0x10;
const SECTOR = 512;

/** How often what goes wrong, 0 … 1. */
export interface Faults {
  /** A transfer ends early. */
  short: number;
  again: number;
  interrupted: number;
  /** EIO. */
  error: number;
  /** Completes while it is submitted. */
  inline: number;
}

/** The fate of one operation that a story chooses: -errno, a short length, or undefined. */
export type Verdict = (sqe: Sqe) => number | undefined;

interface Pending {
  sqe: Sqe;
  done: Done;
  /** When it was submitted: what FSYNC makes durable was complete by then. */
  time: number;
}

export class SimDisk implements SimFile {
  platter: Platter;
  /** Whether fallocate(2) can punch holes and zero ranges. */
  canFallocate = true;
  /** Decides before chance does. */
  verdict: Verdict = () => undefined;
  readonly faults: Faults = { short: 0, again: 0, interrupted: 0, error: 0, inline: 0 };
  /** Every SQE that was submitted, for stories that look. */
  readonly log: Sqe[] = [];
  readonly #memory: Memory;
  readonly #random: Random;
  readonly #pending: Pending[] = [];

  constructor(platter: Platter, memory: Memory, random: Random) {
    this.platter = platter;
    this.#memory = memory;
    this.#random = random;
  }

  submit(sqe: Sqe, done: Done): void {
    this.log.push(sqe);
    const pending = { sqe, done, time: this.platter.time };
    if (this.#random.chance(this.faults.inline)) this.#complete(pending);
    else this.#pending.push(pending);
  }

  ready(): number {
    return this.#pending.length;
  }

  fire(): void {
    this.#complete(this.#random.take(this.#pending));
  }

  /** The power fails: operations under way leave none, some or all of their sectors. */
  powerCut(): Platter {
    while (this.#pending.length > 0) {
      const pending = this.#random.take(this.#pending);
      if (this.#random.chance(0.5)) this.#execute({ ...pending, sqe: volatile(pending.sqe) });
    }
    return this.platter.powerCut(this.#random);
  }

  #complete(pending: Pending): void {
    pending.done(this.#chosen(pending.sqe) ?? this.#execute(pending));
  }

  #chosen(sqe: Sqe): number | undefined {
    const chosen = this.verdict(sqe);
    if (chosen !== undefined && chosen <= 0) return chosen;
    const { again, interrupted, error, short } = this.faults;
    if (this.#random.chance(again)) return -EAGAIN;
    if (this.#random.chance(interrupted)) return -EINTR;
    if (this.#random.chance(error)) return -EIO;
    const moves = isRead(sqe) || isWrite(sqe);
    if (!moves || (chosen === undefined && !this.#random.chance(short))) return undefined;
    const length = chosen ?? this.#shorter(sqe.length);
    return this.#execute({ sqe: { ...sqe, length }, time: 0 });
  }

  /** Direct IO ends at sectors, buffered IO anywhere. */
  #shorter(length: number): number {
    const sectors = this.#random.int(length / SECTOR) * SECTOR;
    const bytes = 1 + this.#random.int(length - 1);
    return this.#random.chance(0.5) && sectors > 0 ? sectors : Math.max(1, bytes);
  }

  #execute({ sqe, time }: Omit<Pending, "done">): number {
    // IO priority, personalities and attributes: nobody here means them.
    if (sqe.ioprio || sqe.personality || sqe.fileIndex) return -EINVAL;
    if (sqe.bufIndex && sqe.pages === undefined) return -EINVAL;
    switch (sqe.opcode) {
      case READ:
      case READ_FIXED:
        return hasAttributes(sqe) ? -EINVAL : this.#read(sqe);
      case WRITE:
      case WRITE_FIXED:
        return hasAttributes(sqe) ? -EINVAL : this.#write(sqe);
      case FSYNC:
        return this.#sync(sqe, time);
      case FALLOCATE:
        return this.#fallocate(sqe);
      default:
        return -EINVAL;
    }
  }

  #read(sqe: Sqe): number {
    const bytes = this.platter.read(sqe.offset, sqe.length);
    destinationOf(sqe, this.#memory).set(bytes);
    return bytes.length;
  }

  #write(sqe: Sqe): number {
    if ((sqe.opFlags & ~DSYNC) !== 0 || sqe.length === 0) return -EINVAL;
    if (sqe.offset + sqe.length > this.platter.capacity) return -EINVAL;
    this.platter.write(sqe.offset, sourceOf(sqe, this.#memory));
    if (sqe.opFlags & DSYNC) this.platter.syncRange(sqe.offset, sqe.length);
    return sqe.length;
  }

  #sync(sqe: Sqe, time: number): number {
    if (sqe.address || sqe.offset || sqe.length || sqe.opFlags > 1) return -EINVAL;
    this.platter.sync(time);
    return 0;
  }

  /** io_fallocate_prep(): the length is where others have an address, the mode is the length. */
  #fallocate(sqe: Sqe): number {
    if (sqe.opFlags) return -EINVAL;
    if (sqe.address <= 0) return -EINVAL;
    if (!this.canFallocate) return -EOPNOTSUPP;
    const mode = sqe.length;
    const known = mode === (PUNCH_HOLE | KEEP_SIZE) || mode === (ZERO_RANGE | KEEP_SIZE);
    if (!known) return -EOPNOTSUPP;
    this.platter.zero(sqe.offset, sqe.address);
    return 0;
  }
}

/** /dev/zero. */
export class SimZero implements SimFile {
  readonly #memory: Memory;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  submit(sqe: Sqe, done: Done): void {
    if (!isRead(sqe)) throw new Error(`/dev/zero was sent opcode ${sqe.opcode}`);
    destinationOf(sqe, this.#memory).fill(0);
    done(sqe.length);
  }
}

const isRead = ({ opcode }: Sqe): boolean => opcode === READ || opcode === READ_FIXED;
const isWrite = ({ opcode }: Sqe): boolean => opcode === WRITE || opcode === WRITE_FIXED;

/** Where a read puts its bytes: the server's memory, or the pages of a request. */
function destinationOf(sqe: Sqe, memory: Memory): Uint8Array {
  if (sqe.pages === undefined) return memory.destination(sqe.address, sqe.length);
  if (!sqe.pages.filled) throw new Error("read into the pages of a WRITE");
  return inside(sqe.pages, sqe);
}

function sourceOf(sqe: Sqe, memory: Memory): Uint8Array {
  if (sqe.pages === undefined) return memory.source(sqe.address, sqe.length);
  if (sqe.pages.filled) throw new Error("wrote out the pages of a READ");
  return inside(sqe.pages, sqe);
}

/** Of registered pages the address is a position in them. */
function inside(pages: Pages, { address, length }: Sqe): Uint8Array {
  const objection = pages.objection();
  if (objection !== undefined) throw new Error(`touched registered pages: ${objection}`);
  if (address + length > pages.bytes.length) throw new Error("went beyond registered pages");
  return pages.bytes.subarray(address, address + length);
}

/** A write that has not been acknowledged is not durable yet, whatever it asked for. */
function volatile(sqe: Sqe): Sqe {
  return { ...sqe, opFlags: isWrite(sqe) ? 0 : sqe.opFlags };
}

function hasAttributes(sqe: Sqe): boolean {
  return sqe.command.getBigUint64(8, true) !== 0n;
}
