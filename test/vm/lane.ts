// The host's end of a lane: one command of the guest at a time, its output as it comes.

import type { Duplex } from "node:stream";

export interface Result {
  status: number;
  stdout: string;
  stderr: string;
}

export interface Output {
  stdout?: (bytes: Buffer) => void;
  stderr?: (bytes: Buffer) => void;
}

/**
 * Finds in a stream of bytes what one command wrote: it begins after "MARK pid\n" and ends before
 * "\0MARK status\n" (guest/lane). What earlier commands left running may write before that.
 */
export class Marked {
  readonly #mark: string;
  readonly #emit: (bytes: Buffer) => void;
  readonly #begin: (pid: number) => void;
  readonly #end: (status: number) => void;
  #pending = Buffer.alloc(0);
  #begun = false;

  constructor(
    mark: string,
    emit: (bytes: Buffer) => void,
    begin: (pid: number) => void,
    end: (status: number) => void,
  ) {
    this.#mark = mark;
    this.#emit = emit;
    this.#begin = begin;
    this.#end = end;
  }

  feed(bytes: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    if (!this.#begun) {
      const pid = this.#line(`${this.#mark} `);
      if (!pid) return;
      this.#begun = true;
      this.#pending = this.#pending.subarray(pid.after);
      this.#begin(pid.value);
    }
    const status = this.#line(`\0${this.#mark} `);
    this.#pass(status ? status.before : this.#safe());
    if (status) this.#end(status.value);
  }

  /** The number between this text and the end of its line. */
  #line(text: string): { before: number; after: number; value: number } | undefined {
    const before = this.#pending.indexOf(text);
    const end = before < 0 ? -1 : this.#pending.indexOf("\n", before);
    if (end < 0) return undefined;
    const value = Number(this.#pending.toString("latin1", before + text.length, end));
    return { before, after: end + 1, value };
  }

  /** How much cannot be the beginning of the end. */
  #safe(): number {
    const tail = this.#pending.length - (this.#mark.length + 16);
    const zero = this.#pending.indexOf(0, Math.max(0, tail));
    return zero < 0 ? this.#pending.length : zero;
  }

  #pass(length: number): void {
    if (length > 0) this.#emit(this.#pending.subarray(0, length));
    this.#pending = this.#pending.subarray(length);
  }
}

/** A command that was sent: its process in the guest, and its result. */
export interface Sent {
  pid: Promise<number>;
  result: Promise<Result>;
  /** What it has written so far. */
  soFar: () => Omit<Result, "status">;
}

export class Lane {
  readonly #out: Duplex;
  readonly #err: Duplex;

  constructor(out: Duplex, err: Duplex) {
    this.#out = out;
    this.#err = err;
  }

  send(script: string, live: Output = {}): Sent {
    const mark = crypto.randomUUID();
    const pid = Promise.withResolvers<number>();
    const out = this.#collect(this.#out, mark, live.stdout, pid.resolve);
    const err = this.#collect(this.#err, mark, live.stderr, () => undefined);
    this.#out.write(`${mark}\n${script.replaceAll("\0", "")}\0`);
    const soFar = () => ({ stdout: out.text(), stderr: err.text() });
    const result = Promise.all([out.status, err.status]).then(([status]) => ({
      status,
      ...soFar(),
    }));
    return { pid: pid.promise, result, soFar };
  }

  #collect(
    port: Duplex,
    mark: string,
    live: ((bytes: Buffer) => void) | undefined,
    begin: (pid: number) => void,
  ) {
    const chunks: Buffer[] = [];
    const status = Promise.withResolvers<number>();
    const keep = (bytes: Buffer) => {
      chunks.push(bytes);
      live?.(bytes);
    };
    const marked = new Marked(mark, keep, begin, (value) => {
      port.off("data", listen);
      status.resolve(value);
    });
    const listen = (bytes: Buffer) => marked.feed(bytes);
    port.on("data", listen);
    return { status: status.promise, text: () => Buffer.concat(chunks).toString() };
  }
}

/** Lanes that serve the same purpose, opened when they are needed. */
export class Lanes {
  readonly #limit: number;
  readonly #open: () => Lane;
  readonly #free: Lane[] = [];
  readonly #waiting: ((lane: Lane) => void)[] = [];
  #opened = 0;

  constructor(limit: number, open: () => Lane) {
    this.#limit = limit;
    this.#open = open;
  }

  async send(script: string, live?: Output): Promise<Sent> {
    const lane = await this.#take();
    const sent = lane.send(script, live);
    void sent.result.then(() => {
      const next = this.#waiting.shift();
      if (next) next(lane);
      else this.#free.push(lane);
    });
    return sent;
  }

  async #take(): Promise<Lane> {
    const free = this.#free.pop();
    if (free) return free;
    if (this.#opened++ < this.#limit) return this.#open();
    return new Promise<Lane>((resolve) => {
      this.#waiting.push(resolve);
    });
  }
}
