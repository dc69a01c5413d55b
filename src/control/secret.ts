/**
 * A passphrase on its way from who typed it to the daemon: in memory that nobody else can name,
 * as the daemon's descriptor 0; never in a command line, in the environment or in a file.
 */

import { fstatSync, readSync, writeSync } from "node:fs";
import * as libc from "../../ffi/libc.ts";

/** The daemon finds it here. */
const SECRET_FD = 0;

/** Answers a descriptor that is to become the daemon's. */
export function packSecret(secret: string): number {
  const fd = libc.memfdCreate("ublk-secret");
  writeSync(fd, secret);
  return fd;
}

/** For who becomes the daemon: the descriptor survives execve(2). */
export function keepSecret(secret: string): void {
  const fd = packSecret(secret);
  libc.dup2(fd, SECRET_FD);
  libc.close(fd);
}

/** In the daemon: what was packed; afterwards it is nowhere else. */
export function takeSecret(): string {
  const bytes = new Uint8Array(fstatSync(SECRET_FD).size);
  readSync(SECRET_FD, bytes, 0, bytes.length, 0);
  const nowhere = libc.open("/dev/null", libc.O_RDWR);
  libc.dup2(nowhere, SECRET_FD);
  libc.close(nowhere);
  return new TextDecoder().decode(bytes);
}
