/**
 * The other end of a Unix datagram socket: a log or a service manager, as a test needs them.
 * Run as a program, it prints what comes: `receiver.ts PATH`.
 */

import { dlopen, FFIType, ptr } from "bun:ffi";
import { rmSync } from "node:fs";

const { symbols: c } = dlopen("libc.so.6", {
  socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  bind: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  recv: {
    args: [FFIType.i32, FFIType.ptr, FFIType.u64, FFIType.i32],
    returns: FFIType.i64_fast,
  },
  close: { args: [FFIType.i32], returns: FFIType.i32 },
});

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 0x40;

export class Receiver {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(1 << 16);

  /** A leading `@` stands for an abstract name. A file that is there already is replaced. */
  constructor(path: string) {
    this.#fd = c.socket(AF_UNIX, SOCK_DGRAM, 0);
    const abstract = path.startsWith("@");
    if (!abstract) rmSync(path, { force: true });
    const name = Buffer.from(abstract ? `\0${path.slice(1)}` : `${path}\0`);
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), name]);
    if (c.bind(this.#fd, ptr(address), address.length) !== 0) throw new Error(`bind ${path}`);
  }

  /** The next datagram; undefined when there is none and `flags` say not to wait. */
  next(flags = MSG_DONTWAIT): string | undefined {
    const length = Number(c.recv(this.#fd, ptr(this.#buffer), this.#buffer.length, flags));
    return length < 0 ? undefined : this.#buffer.toString("utf8", 0, length);
  }

  /** All that has come. */
  take(): string[] {
    const taken: string[] = [];
    for (let one = this.next(); one !== undefined; one = this.next()) taken.push(one);
    return taken;
  }

  close(): void {
    c.close(this.#fd);
  }
}

if (import.meta.main) {
  const receiver = new Receiver(process.argv[2]!);
  for (;;) console.log(receiver.next(0));
}
