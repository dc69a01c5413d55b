/**
 * The driver's data plane, as drivers/block/ublk_drv.c of Linux 7.2 has it.
 *
 * A tag goes round: FETCH arms it, a request takes it to the server, COMMIT_AND_FETCH ends the
 * request and arms it again. Whatever the server does out of turn is a broken rule.
 */

import { BatchSide } from "./driver_batch.ts";
import { copyData } from "./driver_data.ts";
import { tagCommand } from "./driver_tag.ts";
import { EINVAL, EIO, ENODEV } from "./errno.ts";
import type { Memory } from "./memory.ts";
import type { Random } from "./random.ts";
import type { Done, SimFile, SimRing } from "./ring.ts";
import type { Sqe } from "./sqe.ts";
import { FLUSH, hasData, READ, type Request, Tag, WRITE } from "./tags.ts";

const IORING_OP_URING_CMD = 46;
const NO_SECTOR = 0xffff_ffff_ffff_ffffn;
const RES_OK = 0;
const RES_NEED_GET_DATA = 1;
export const RES_ABORT = -ENODEV;
const F_NEED_REG_BUF = 1 << 17;
const IOD_SIZE = 24;
const SECTOR = 512;

export interface DriverOptions {
  queues: number;
  depth: number;
  maxIoBytes: number;
  mode: "copy" | "get-data" | "user-copy" | "zero-copy" | "auto-zero-copy";
  batch: boolean;
  userCopy: boolean;
}

export class SimDriver implements SimFile {
  readonly options: DriverOptions;
  readonly memory: Memory;
  readonly random: Random;
  readonly tags: Tag[] = [];
  /** Answers every command with this -errno. */
  refusal = 0;
  /** How often a registration fails, 0 … 1. */
  registrationFails = 0;
  /** No request goes to the server any more. */
  canceling = false;
  /** Requests that reached the server, and commits that came back for them. */
  readonly count = { arrived: 0, committed: 0 };
  readonly #iods: DataView[];
  readonly #waiting: { request: Request; progress: number }[] = [];
  readonly #batch: BatchSide | undefined;
  /** Tags whose command is to be aborted. */
  #aborting: Tag[] = [];

  /** `iods`: memory for the server to map, by queue. */
  constructor(options: DriverOptions, iods: DataView[], memory: Memory, random: Random) {
    this.options = options;
    this.memory = memory;
    this.random = random;
    this.#iods = iods;
    for (let queueId = 0; queueId < options.queues; queueId++) {
      for (let tag = 0; tag < options.depth; tag++) this.tags.push(new Tag(queueId, tag));
    }
    this.#batch = options.batch ? new BatchSide(this) : undefined;
  }

  // What the block layer does.

  queue(request: Request): void {
    this.#waiting.push({ request, progress: 0 });
  }

  /** STOP_DEV: the caller has seen every request end; each armed tag is aborted. */
  stop(): void {
    if (this.#waiting.length > 0 || this.tags.some((tag) => tag.request !== undefined)) {
      throw new Error("the block layer stops a disk only when its requests have ended");
    }
    this.quiesce();
  }

  /** QUIESCE_DEV: idle commands are aborted, what is in the server's hands is left to it. */
  quiesce(): void {
    this.canceling = true;
    if (this.#batch !== undefined) this.#batch.quiesce();
    else this.#aborting = this.tags.filter((tag) => tag.free);
  }

  /** Each queue has a command that an abort would end: QUIESCE_DEV waits for that. */
  canQuiesce(): boolean {
    if (this.#batch !== undefined) return this.#batch.canQuiesce();
    const free = new Set(this.tags.filter((tag) => tag.free).map(({ queueId }) => queueId));
    return free.size === this.options.queues;
  }

  get live(): boolean {
    return this.tags.every((tag) => tag.state !== "unknown");
  }

  // What happens by and by.

  /** How many things the driver could do next. */
  ready(): number {
    if (this.#aborting.length > 0) return 1;
    if (this.#batch !== undefined && this.#batch.ready()) return 1;
    return this.#canDispatch() ? 1 : 0;
  }

  fire(): void {
    if (this.#aborting.length > 0) return this.#abort(this.random.take(this.#aborting));
    if (this.#batch?.ready() && !(this.#canDispatch() && this.random.chance(0.5))) {
      return this.#batch.fire();
    }
    const free = this.tags.filter((tag) => tag.free);
    this.#assign(this.random.pick(free));
  }

  #canDispatch(): boolean {
    if (this.canceling || this.#waiting.length === 0 || !this.live) return false;
    return this.tags.some((tag) => tag.free);
  }

  #abort(tag: Tag): void {
    tag.state = "aborted";
    tag.done!(RES_ABORT);
  }

  #assign(tag: Tag): void {
    const { request, progress } = this.#waiting.shift()!;
    tag.request = request;
    tag.progress = progress;
    if (this.#batch !== undefined) this.#batch.assigned(tag);
    else this.#dispatch(tag);
  }

  #dispatch(tag: Tag): void {
    if (this.options.mode === "get-data" && tag.request!.op === WRITE) {
      this.describe(tag);
      tag.state = "asking";
      tag.arrival = tag.done!(RES_NEED_GET_DATA);
      return;
    }
    this.deliver(tag);
    tag.arrival = tag.done!(RES_OK);
  }

  /** The tag's request is the server's, its data where the mode has them; the caller says so. */
  deliver(tag: Tag): void {
    const { mode } = this.options;
    this.describe(tag);
    if (tag.request!.op === WRITE && (mode === "copy" || mode === "get-data")) {
      this.memory.source(tag.address, tag.left.length).set(tag.left);
    }
    if (mode === "auto-zero-copy" && hasData(tag.request!)) this.#autoRegister(tag);
    tag.state = "server";
    this.count.arrived++;
  }

  /** Fills the tag's iod. */
  describe(tag: Tag): void {
    const request = tag.request!;
    const left = request.sectors - tag.progress / SECTOR;
    if (hasData(request) && left * SECTOR > this.options.maxIoBytes) throw new Error("too long");
    const iod = this.#iods[tag.queueId]!;
    const at = tag.tag * IOD_SIZE;
    iod.setUint32(at, (request.op | request.flags) >>> 0, true);
    iod.setUint32(at + 4, left, true);
    // The block layer leaves a flush without a place: all ones (blk_rq_init in block/blk-mq.c).
    const isFlush = request.op === FLUSH;
    const sector = isFlush ? NO_SECTOR : BigInt(request.sector + tag.progress / SECTOR);
    iod.setBigUint64(at + 8, sector, true);
    iod.setBigUint64(at + 16, BigInt(tag.address), true);
  }

  #autoRegister(tag: Tag): void {
    if (this.random.chance(this.registrationFails)) {
      if (!tag.autoFallback) throw new Error(`${tag.where}: no fallback was asked for`);
      const iod = this.#iods[tag.queueId]!;
      const at = tag.tag * IOD_SIZE;
      iod.setUint32(at, (iod.getUint32(at, true) | F_NEED_REG_BUF) >>> 0, true);
      return;
    }
    tag.ring!.buffers.put(
      tag.autoIndex,
      tag.pages(() => this.#endIfFree(tag)),
    );
    tag.autoRegistered = true;
  }

  // What the server does.

  submit(sqe: Sqe, done: Done, ring: SimRing): void {
    if (this.refusal < 0) done(this.refusal);
    else if (sqe.opcode !== IORING_OP_URING_CMD) copyData(this, sqe, done);
    else if (sqe.pad !== 0) done(-EINVAL);
    else if (this.#batch !== undefined && this.#batch.submit(sqe, done, ring)) return;
    else tagCommand(this, sqe, done, ring);
  }

  tag(queueId: number, tag: number): Tag {
    const found = this.tags.find((one) => one.queueId === queueId && one.tag === tag);
    if (found === undefined) throw new Error(`there is no queue ${queueId} tag ${tag}`);
    return found;
  }

  /** The server gives a request back. */
  commit(tag: Tag, result: number): void {
    if (tag.state !== "server") {
      throw new Error(`${tag.where}: committed in state ${tag.state}, without a request`);
    }
    if (!tag.arrival!.reaped) throw new Error(`${tag.where}: committed before it was reaped`);
    if (result < -4095 || result > tag.left.length) {
      throw new Error(`${tag.where}: committed result ${result}`);
    }
    this.count.committed++;
    tag.state = "armed";
    tag.committed = result;
    if (tag.autoRegistered) {
      tag.autoRegistered = false;
      tag.ring!.buffers.remove(tag.autoIndex);
    } else this.#endIfFree(tag);
  }

  /** A request ends when it is committed and no ring has its pages any more. */
  #endIfFree(tag: Tag): void {
    const { request, committed, progress } = tag;
    if (committed === undefined || tag.registrations > 0) return;
    tag.request = undefined;
    tag.committed = undefined;
    this.#end(tag, request!, progress, committed);
  }

  /** As __ublk_complete_rq() does. */
  #end(tag: Tag, request: Request, progress: number, result: number): void {
    if (result === 0 && request.op === READ) return request.ended(-EIO);
    if (result < 0) return request.ended(result);
    if (!hasData(request)) return request.ended(0);
    if (result === 0 || result % SECTOR !== 0) {
      throw new Error(`${tag.where}: ${result} bytes done`);
    }
    const { mode } = this.options;
    if (request.op === READ && (mode === "copy" || mode === "get-data")) {
      request.bytes.set(this.memory.source(tag.address, result), progress);
    }
    const done = progress + result;
    if (done === request.bytes.length) request.ended(0);
    else this.#waiting.unshift({ request, progress: done });
  }

  /** The server registers a request's pages itself. */
  register(tag: Tag, index: number, ring: SimRing): boolean {
    if (tag.state !== "server" || !hasData(tag.request!)) {
      throw new Error(`${tag.where}: registered in state ${tag.state}`);
    }
    if (this.random.chance(this.registrationFails)) return false;
    ring.buffers.put(
      index,
      tag.pages(() => this.#endIfFree(tag)),
    );
    return true;
  }

  /** The server has let go of ring and device: what it has seen, it must have committed. */
  released(): void {
    for (const tag of this.tags) {
      const held = tag.state === "server" || tag.state === "asking";
      if (held && tag.arrival!.reaped) throw new Error(`${tag.where}: never committed`);
      if (tag.committed !== undefined) throw new Error(`${tag.where}: never unregistered`);
    }
  }
}
