/**
 * An image served without a block device: the production loop, requests and handlers over the
 * host's own ring. What would come from the driver is put in front of the ring's completions.
 */

import { closeSync, openSync } from "node:fs";
import { Arena } from "../../../ffi/arena.ts";
import { KernelRing } from "../../../ffi/kernel_ring.ts";
import { Commands } from "../../../src/queue/commands.ts";
import { CopyIo } from "../../../src/queue/io_copy.ts";
import type { QueueIo } from "../../../src/queue/io.ts";
import { KIND_COMMAND, KIND_RESIZE, userMeta } from "../../../src/queue/user_data.ts";
import { Loop } from "../../../src/queue/loop.ts";
import { WaitTimes } from "../../../src/queue/wait_times.ts";
import { openDirect, openImageFile } from "../../../src/target/backing_file.ts";
import { bytesAt } from "../../../src/target/memory.ts";
import { DescriptorFile } from "../../../src/target/file_io.ts";
import { OP_FLUSH, OP_READ, OP_WRITE, ZEROES_MAX } from "../../../src/target/target.ts";
import { openChain } from "../../../targets/qcow2/chain.ts";
import { Engine } from "../../../targets/qcow2/engine.ts";
import { unlock } from "../../../targets/qcow2/luks.ts";

export interface Request {
  op: number;
  flags?: number;
  offset: number;
  length: number;
  /** What a WRITE carries. */
  bytes?: Uint8Array;
}

export interface Answer {
  /** Bytes done, or -errno. */
  result: number;
  /** What a READ brought. */
  bytes: Uint8Array;
}

export interface RigOptions {
  readOnly?: boolean;
  depth?: number;
  cacheSize?: number;
  maxIoBytes?: number;
  /** Data by direct IO, where that can be done. */
  direct?: boolean;
  /** Of an encrypted image. */
  passphrase?: string;
  /** The server before this one was killed. */
  recovering?: boolean;
}

const ABORT = -19;
const HANGS_MS = 30_000;
/** A flush's sector is -1 (blk_kick_flush in blk-flush.c). */
const FLUSH_OFFSET = 2 ** 64 * 512;
/** So that bytes nobody filled in do not look like zeros. */
const POISON = 0xee;

class InjectRing extends KernelRing {
  readonly injected: { slot: number; res: number; kind?: number }[] = [];

  override submitAndWait(): number {
    if (this.injected.length > 0) return Math.min(0, this.submit());
    if (!this.waitFor(HANGS_MS)) throw new Error("the server sleeps for ever");
    return 0;
  }
  override cqReady(): number {
    return this.injected.length > 0 ? this.injected.length : super.cqReady();
  }
  override cqSlot(): number {
    return this.injected[0]?.slot ?? super.cqSlot();
  }
  override cqMeta(): number {
    return this.injected.length > 0
      ? userMeta(this.injected[0]!.kind ?? KIND_COMMAND, 0)
      : super.cqMeta();
  }
  override cqRes(): number {
    return this.injected[0]?.res ?? super.cqRes();
  }
  override cqFlags(): number {
    return this.injected.length > 0 ? 0 : super.cqFlags();
  }
  override cqAdvance(): void {
    if (this.injected.length > 0) this.injected.shift();
    else super.cqAdvance();
  }
}

/** Counts the fdatasyncs that it asks for. */
class RigIo extends CopyIo {
  syncs = 0;

  override syncFile(file: number): void {
    this.syncs++;
    super.syncFile(file);
  }
}

class RigCommands extends Commands {
  queued: Request[] = [];
  answers: Answer[] = [];
  readonly #injected: InjectRing["injected"];
  readonly #buffers: Uint8Array[];
  readonly #current: number[] = [];
  #next = 0;
  #ended = 0;
  #slot = 0;

  constructor(ring: InjectRing, ios: QueueIo[], buffers: Uint8Array[]) {
    super(ring, ios, []);
    this.#injected = ring.injected;
    this.#buffers = buffers;
  }

  /** Sectors, for a resize that comes before the requests of the next run, or after the first. */
  resizeTo: number | undefined;
  resizesLater = false;

  begin(): void {
    if (!this.resizesLater) this.#resize();
    this.#next = 0;
    this.#ended = 0;
    this.answers = [];
    if (this.queued.length === 0) this.#injected.push({ slot: 0, res: ABORT });
    for (let slot = 0; slot < this.ios.length; slot++) {
      this.#arrive(slot);
      this.#resize();
    }
  }

  #resize(): void {
    if (this.resizeTo === undefined) return;
    const low = (this.resizeTo % 2 ** 32) | 0;
    const high = Math.floor(this.resizeTo / 2 ** 32);
    this.#injected.push({ slot: low, res: high, kind: KIND_RESIZE });
    this.resizeTo = undefined;
  }

  #arrive(slot: number): void {
    if (this.#next === this.queued.length) return;
    this.#current[slot] = this.#next++;
    this.#injected.push({ slot, res: 0 });
  }

  done(slot: number, res: number): number {
    this.#slot = slot;
    return res === 0 ? 1 : res;
  }
  arrived(): number {
    return this.#slot;
  }

  override load(io: QueueIo): void {
    const request = this.queued[this.#current[io.slot]!]!;
    const offset = request.op === OP_FLUSH ? FLUSH_OFFSET : request.offset;
    io.begin(request.op, request.flags ?? 0, offset, request.length);
    if (request.op === OP_READ) {
      // As a guest's buffer: copy mode trusts that what it knows of is still there.
      const buffer = this.#buffers[io.slot]!;
      io.putBytes(0, this.poison, request.length);
      if (request.length > buffer.length) throw new Error("the request is too long for the rig");
    } else if (request.op === OP_WRITE) {
      this.#buffers[io.slot]!.set(request.bytes!);
    }
  }
  poison = 0;

  commit(io: QueueIo, result: number): void {
    if (io.inFlight > 0) throw new Error("committed with pieces in flight");
    const index = this.#current[io.slot]!;
    const request = this.queued[index]!;
    const read = request.op === OP_READ && result >= 0;
    const bytes = read ? this.#buffers[io.slot]!.slice(0, request.length) : new Uint8Array();
    this.answers[index] = { result, bytes };
    this.#ended++;
    if (this.#ended === this.queued.length) this.#injected.push({ slot: 0, res: ABORT });
    else this.#arrive(io.slot);
  }
  flush(): boolean {
    return true; // nothing is gathered
  }
  holding(): boolean {
    return false;
  }
}

export class Rig {
  readonly log: string[] = [];
  readonly engine: Engine;
  readonly size: number;
  /** Bytes of memory that it has asked for. */
  allocated = 0;
  readonly #ring: InjectRing;
  readonly #commands: RigCommands;
  readonly #ios: RigIo[] = [];
  readonly #spare: QueueIo;
  #resized = 0;
  readonly #runnable: QueueIo[] = [];
  readonly #fds: number[] = [];
  readonly #closers: (() => void)[] = [];
  readonly #arenas: Arena[] = [];

  constructor(path: string, options: RigOptions = {}) {
    const { readOnly = false, depth = 8, cacheSize = 1 << 20, maxIoBytes = 1 << 20 } = options;
    const allocate = (length: number): number => {
      const arena = new Arena(length);
      this.allocated += length;
      this.#arenas.push(arena);
      return arena.address;
    };
    try {
      const chain = openChain(path, readOnly, (name, only) => {
        const { fd, close } = openImageFile(name, only);
        this.#fds.push(fd);
        this.#closers.push(close);
        return new DescriptorFile(fd, name);
      });
      this.size = chain.header!.size;
      const direct = options.direct ? openDirect(this.#fds[chain.dataIndex]!, readOnly) : undefined;
      if (direct !== undefined) {
        this.#fds.push(direct.fd);
        this.#closers.push(direct.close);
      }
      const directFile = direct === undefined ? undefined : this.#fds.length;
      const none = openSync("/dev/null", "r");
      this.#closers.push(() => closeSync(none));
      const ring = new InjectRing(depth * 10);
      ring.registerFiles([none, ...this.#fds, none]);
      const zeroFile = this.#fds.length + 1;
      const zeroes = allocate(Math.max(ZEROES_MAX, maxIoBytes));
      const waits = new WaitTimes(depth);
      this.#closers.push(() => waits.free());
      const shared = { ring, reserved: depth, zeroes, zeroFile, waits };
      const buffers: Uint8Array[] = [];
      for (let slot = 0; slot < depth; slot++) {
        const address = allocate(maxIoBytes);
        buffers.push(bytesAt(address, maxIoBytes));
        this.#ios.push(new RigIo(slot, 0, slot, shared, address));
      }
      this.#spare = new CopyIo(depth, -1, -1, shared, 0);
      this.#ring = ring;
      this.#commands = new RigCommands(ring, this.#ios, buffers);
      this.#commands.poison = allocate(maxIoBytes);
      bytesAt(this.#commands.poison, maxIoBytes).fill(POISON);
      const log = (line: string): void => void this.log.push(line);
      const { recovering = false } = options;
      const context = { runnable: this.#runnable, allocate, log, recovering };
      const key = options.passphrase;
      const cipher = key && unlock(chain.file, chain.header!, Buffer.from(key));
      this.engine = new Engine(
        chain,
        { readOnly, directFile, cacheSize, cipher: cipher || undefined },
        context,
      );
    } catch (error) {
      this.#free();
      throw error;
    }
  }

  /** fdatasyncs so far. */
  get syncs(): number {
    return this.#ios.reduce((sum, io) => sum + io.syncs, 0);
  }

  /** Runs requests, as many at once as the rig is deep; answers in their order. */
  run(requests: Request[]): Answer[] {
    const complain = (error: unknown): void => {
      throw error;
    };
    const { engine } = this;
    const commands = this.#commands;
    commands.queued = requests;
    const ios = [...this.#ios, this.#spare];
    const resized = (failure: number): void => void (this.#resized = failure);
    const spare = { io: this.#spare, swaps: () => undefined, resized };
    const loop = new Loop(
      this.#ring,
      ios,
      commands,
      engine,
      this.#runnable,
      complain,
      undefined,
      spare,
    );
    const failure = loop.run();
    if (failure !== 0) throw new Error(`the loop ended with ${failure}`);
    return commands.answers;
  }

  /** Another size for the disk as soon as the first request of the next `run` has begun. */
  resizeBeside(size: number): void {
    this.#commands.resizeTo = size / 512;
    this.#commands.resizesLater = true;
  }

  /** Another size for the disk, with requests beside it. Answers 0 or -errno. */
  resize(size: number, requests: Request[] = []): number {
    this.#commands.resizeTo = size / 512;
    this.#commands.resizesLater = false;
    this.#resized = 1;
    this.run(requests);
    return this.#resized;
  }

  read(offset: number, length: number): Uint8Array {
    const pieces: Request[] = [];
    for (let at = 0; at < length; at += 1 << 18) {
      pieces.push({ op: OP_READ, offset: offset + at, length: Math.min(1 << 18, length - at) });
    }
    const answers = this.run(pieces);
    const bad = answers.find((answer) => answer.result < 0);
    if (bad !== undefined) throw new Error(`a READ failed with ${bad.result}`);
    return Buffer.concat(answers.map((answer) => answer.bytes));
  }

  /** As the server does when the device is gone. */
  close(): void {
    this.engine.close();
    this.#free();
  }

  /** As a server that was killed. */
  kill(): void {
    this.#free();
  }

  #free(): void {
    this.#ring?.close();
    for (const close of this.#closers) close();
    for (const arena of this.#arenas) arena.free();
  }
}
