/** Datagrams to a Unix socket: how a program speaks to the log and to its service manager. */

import * as libc from "./libc.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;
const MSG_DONTWAIT = 0x40;
/** sockaddr_un: the family, then 108 bytes of path with its NUL. */
const PATH_MAX = 107;

/** A socket whose other end is `path`; a leading `@` stands for an abstract name. */
export class Datagrams {
  readonly #fd: number;

  /** Throws SysError when nobody listens there. */
  constructor(path: string) {
    this.#fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC);
    try {
      libc.connect(this.#fd, addressOf(path), path);
    } catch (error) {
      libc.close(this.#fd);
      throw error;
    }
  }

  /** Never waits, never raises SIGPIPE: throws EAGAIN when the reader is behind. */
  send(text: string): void {
    libc.send(this.#fd, Buffer.from(text), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  close(): void {
    libc.close(this.#fd);
  }
}

/** struct sockaddr_un. A longer path is cut, and the connection refused. */
function addressOf(path: string): Uint8Array {
  const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : `${path}\0`);
  const address = Buffer.alloc(2 + Math.min(name.length, PATH_MAX + 1));
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, 2, 0, PATH_MAX + 1);
  return address;
}
