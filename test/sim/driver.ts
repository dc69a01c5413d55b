/**
 * The driver's data plane in copy mode, as drivers/block/ublk_drv.c has it.
 *
 * A tag goes round: FETCH arms it, a request takes it to the server, COMMIT_AND_FETCH ends the
 * request and arms it again. Whatever the server does out of turn is a broken rule.
 */

import { EINVAL, EIO, ENODEV } from "./errno.ts";
import type { Memory } from "./memory.ts";
import type { Random } from "./random.ts";
import type { Cqe, Done, SimFile } from "./ring.ts";
import type { Sqe } from "./sqe.ts";

const IORING_OP_URING_CMD = 46;
const FETCH_REQ = 0xc0107520;
const COMMIT_AND_FETCH_REQ = 0xc0107521;
const RES_OK = 0;
const RES_ABORT = -ENODEV;
const IOD_SIZE = 24;
const SECTOR = 512;
export const READ = 0;
export const WRITE = 1;

/** What the block layer asks for. */
export interface Request {
  op: number;
  flags: number;
  sector: number;
  sectors: number;
  /** The request's own pages, where it has data. */
  bytes: Uint8Array;
  /** Once, with 0 or -errno. */
  ended(result: number): void;
}

interface Tag {
  queueId: number;
  tag: number;
  state: "unknown" | "armed" | "server" | "aborted";
  address: number;
  done: Done | undefined;
  request: Request | undefined;
  /** The completion that took the request to the server. */
  arrival: Cqe | undefined;
  /** Bytes of the request that earlier rounds have done. */
  progress: number;
}

export interface DriverOptions {
  queues: number;
  depth: number;
  maxIoBytes: number;
}

export class SimDriver implements SimFile {
  /** What the server has mapped, by queue. */
  readonly iods: Int32Array[];
  readonly #views: DataView[];
  readonly #tags: Tag[] = [];
  readonly #waiting: { request: Request; progress: number }[] = [];
  readonly #options: DriverOptions;
  readonly #memory: Memory;
  readonly #random: Random;
  /** No request goes to the server any more. */
  #canceling = false;
  /** Tags whose command is to be aborted. */
  #aborting: Tag[] = [];
  /** Answers every command with this -errno. */
  refusal = 0;
  /** Requests that reached the server, and commits that came back for them. */
  readonly count = { arrived: 0, committed: 0 };

  constructor(options: DriverOptions, memory: Memory, random: Random) {
    this.#options = options;
    this.#memory = memory;
    this.#random = random;
    this.iods = Array.from(
      { length: options.queues },
      () => new Int32Array(new ArrayBuffer(options.depth * IOD_SIZE)),
    );
    this.#views = this.iods.map((iods) => new DataView(iods.buffer));
    for (let queueId = 0; queueId < options.queues; queueId++) {
      for (let tag = 0; tag < options.depth; tag++) this.#tags.push(freshTag(queueId, tag));
    }
  }

  // What the block layer does.

  queue(request: Request): void {
    this.#waiting.push({ request, progress: 0 });
  }

  /** STOP_DEV: the caller has seen every request end; each armed tag is aborted. */
  stop(): void {
    if (this.#waiting.length > 0 || this.#tags.some((tag) => tag.state === "server")) {
      throw new Error("the block layer stops a disk only when its requests have ended");
    }
    this.quiesce();
  }

  /** QUIESCE_DEV: armed tags are aborted, those in the server's hands are left to it. */
  quiesce(): void {
    this.#canceling = true;
    this.#aborting = this.#tags.filter((tag) => tag.state === "armed");
  }

  /** Each queue has a command that an abort would end: QUIESCE_DEV waits for that. */
  canQuiesce(): boolean {
    const armed = new Set(this.#tags.filter((tag) => tag.state === "armed").map((t) => t.queueId));
    return armed.size === this.#options.queues;
  }

  get live(): boolean {
    return this.#tags.every((tag) => tag.state !== "unknown");
  }

  // What happens by and by.

  /** How many things the driver could do next. */
  ready(): number {
    if (this.#aborting.length > 0) return 1;
    if (this.#canceling) return 0;
    return this.live && this.#waiting.length > 0 && this.#armed().length > 0 ? 1 : 0;
  }

  fire(): void {
    if (this.#aborting.length > 0) this.#abort(this.#random.take(this.#aborting));
    else this.#dispatch(this.#random.pick(this.#armed()), this.#waiting.shift()!);
  }

  #armed(): Tag[] {
    return this.#tags.filter((tag) => tag.state === "armed");
  }

  #abort(tag: Tag): void {
    tag.state = "aborted";
    tag.done!(RES_ABORT);
  }

  #dispatch(tag: Tag, { request, progress }: { request: Request; progress: number }): void {
    const hasData = request.op === READ || request.op === WRITE;
    const left = request.sectors - progress / SECTOR;
    if (hasData && left * SECTOR > this.#options.maxIoBytes) throw new Error("request too long");
    const iod = this.#views[tag.queueId]!;
    const at = tag.tag * IOD_SIZE;
    iod.setUint32(at, (request.op | request.flags) >>> 0, true);
    iod.setUint32(at + 4, left, true);
    iod.setBigUint64(at + 8, BigInt(request.sector + progress / SECTOR), true);
    iod.setBigUint64(at + 16, BigInt(tag.address), true);
    if (request.op === WRITE) {
      const data = request.bytes.subarray(progress);
      this.#memory.source(tag.address, data.length).set(data);
    }
    tag.request = request;
    tag.progress = progress;
    tag.state = "server";
    this.count.arrived++;
    tag.arrival = tag.done!(RES_OK);
  }

  // What the server does.

  submit(sqe: Sqe, done: Done): void {
    const queueId = sqe.command.getUint16(0, true);
    const tagNumber = sqe.command.getUint16(2, true);
    const result = sqe.command.getInt32(4, true);
    const address = Number(sqe.command.getBigUint64(8, true));
    const tag = this.#tags.find((one) => one.queueId === queueId && one.tag === tagNumber);
    if (sqe.opcode !== IORING_OP_URING_CMD || sqe.pad !== 0 || tag === undefined) {
      done(-EINVAL);
      throw new Error(`the char device was sent opcode ${sqe.opcode} for tag ${tagNumber}`);
    }
    const where = `queue ${queueId} tag ${tagNumber}`;
    if (this.refusal < 0) done(this.refusal);
    else if (sqe.cmdOp === FETCH_REQ) this.#fetch(tag, address, done, where);
    else if (sqe.cmdOp === COMMIT_AND_FETCH_REQ) this.#commit(tag, address, result, done, where);
    else throw new Error(`${where}: command 0x${sqe.cmdOp.toString(16)} is unknown`);
  }

  #fetch(tag: Tag, address: number, done: Done, where: string): void {
    if (tag.state !== "unknown") throw new Error(`${where}: fetched in state ${tag.state}`);
    if (address === 0) throw new Error(`${where}: fetched without a buffer`);
    this.#memory.allow(where, address, this.#options.maxIoBytes, () =>
      tag.state === "server" ? undefined : `the tag is ${tag.state}`,
    );
    tag.address = address;
    this.#arm(tag, done);
  }

  #commit(tag: Tag, address: number, result: number, done: Done, where: string): void {
    const request = tag.request;
    if (tag.state !== "server" || request === undefined) {
      throw new Error(`${where}: committed in state ${tag.state}, without a request`);
    }
    if (!tag.arrival!.reaped) throw new Error(`${where}: committed before it was reaped`);
    if (address !== tag.address) throw new Error(`${where}: committed with another buffer`);
    const left = request.bytes.length - tag.progress;
    if (result < -4095 || result > left) throw new Error(`${where}: committed result ${result}`);
    this.count.committed++;
    const { progress } = tag;
    tag.request = undefined;
    this.#arm(tag, done);
    this.#end(tag, request, progress, result, where);
  }

  /** As __ublk_complete_rq() does. */
  #end(tag: Tag, request: Request, progress: number, result: number, where: string): void {
    if (result === 0 && request.op === READ) return request.ended(-EIO);
    if (result < 0) return request.ended(result);
    if (request.op !== READ && request.op !== WRITE) return request.ended(0);
    if (result === 0 || result % SECTOR !== 0) throw new Error(`${where}: ${result} bytes done`);
    if (request.op === READ) {
      request.bytes.set(this.#memory.source(tag.address, result), progress);
    }
    const done = progress + result;
    if (done === request.bytes.length) request.ended(0);
    else this.#waiting.unshift({ request, progress: done });
  }

  #arm(tag: Tag, done: Done): void {
    tag.state = "armed";
    tag.done = done;
  }

  /** The server has let go of ring and device: what it has seen, it must have committed. */
  released(): void {
    for (const tag of this.#tags) {
      if (tag.state !== "server" || !tag.arrival!.reaped) continue;
      throw new Error(`queue ${tag.queueId} tag ${tag.tag}: never committed`);
    }
  }
}

function freshTag(queueId: number, tag: number): Tag {
  return {
    queueId,
    tag,
    state: "unknown",
    address: 0,
    done: undefined,
    request: undefined,
    arrival: undefined,
    progress: 0,
  };
}
