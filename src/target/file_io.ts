/** Files that a target reads and writes itself, at once: headers and tables at open and close. */

import { fdatasyncSync, fstatSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { EIO, EOPNOTSUPP, SysError, trySys } from "../../ffi/errno.ts";
import { dropCached, fallocate } from "../../ffi/libc.ts";
import { deviceSize, FALLOC_FL_PUNCH_HOLE_KEEP_SIZE } from "./backing_limits.ts";

export { EINVAL, EIO, ENOENT, ENOSPC, EROFS, SysError } from "../../ffi/errno.ts";
export { FILE_END_MAX } from "../../ffi/io_uring.ts";

/** One file, or what stands in for it in a test. */
export interface SyncFile {
  readonly path: string;
  /** Bytes that it can never exceed. */
  readonly limit: number;
  /** Bytes it has now. */
  size(): number;
  /** Fills `bytes`; answers how many there were before the end of the file. */
  read(bytes: Uint8Array, offset: number): number;
  write(bytes: Uint8Array, offset: number): void;
  /** fdatasync(2). */
  sync(): void;
  /** Gives space back where that can be done; the range reads zeros then. */
  punch(offset: number, length: number): void;
  /** Cuts off what stands behind `length`. */
  truncate(length: number): void;
  /** Takes what is clean out of the page cache. */
  dropCached(): void;
}

/** An open descriptor as a SyncFile; whoever opened it closes it. */
export class DescriptorFile implements SyncFile {
  readonly path: string;
  readonly fd: number;
  readonly limit: number;
  readonly #deviceSize: number | undefined;

  constructor(fd: number, path: string) {
    this.fd = fd;
    this.path = path;
    this.#deviceSize = deviceSize(fd);
    this.limit = this.#deviceSize ?? Number.POSITIVE_INFINITY;
  }

  size(): number {
    return this.#deviceSize ?? this.#try("fstat", () => fstatSync(this.fd).size);
  }

  read(bytes: Uint8Array, offset: number): number {
    let done = 0;
    while (done < bytes.length) {
      const from = done;
      // An image may name any offset. That is its mistake, which Node would call one of ours.
      if (offset + from > Number.MAX_SAFE_INTEGER) throw this.#beyondAll();
      const count = this.#try("read", () =>
        readSync(this.fd, bytes, from, bytes.length - from, offset + from),
      );
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  write(bytes: Uint8Array, offset: number): void {
    for (let done = 0; done < bytes.length;) {
      const from = done;
      done += this.#try("write", () =>
        writeSync(this.fd, bytes, from, bytes.length - from, offset + from),
      );
    }
  }

  sync(): void {
    this.#try("fdatasync", () => fdatasyncSync(this.fd));
  }

  punch(offset: number, length: number): void {
    try {
      fallocate(this.fd, FALLOC_FL_PUNCH_HOLE_KEEP_SIZE, offset, length);
    } catch (error) {
      if (!(error instanceof SysError) || error.errno !== EOPNOTSUPP) throw error;
    }
  }

  truncate(length: number): void {
    this.#try("ftruncate", () => ftruncateSync(this.fd, length));
  }

  dropCached(): void {
    dropCached(this.fd);
  }

  #beyondAll(): SysError {
    return new SysError({ op: "read", errno: EIO, subject: this.path });
  }

  #try<T>(op: string, action: () => T): T {
    return trySys(op, this.path, action);
  }
}
