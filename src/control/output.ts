/** Text on its way to others: by a descriptor that is open, or to where a name leads. */

import {
  closeSync,
  constants,
  existsSync,
  lstatSync,
  openSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { EAGAIN, EPIPE, SysError, trySys } from "../../ffi/errno.ts";

/** All of it, in however many pieces. `name` is how a person would call the descriptor. */
export function writeAll(fd: number, text: string, name = `descriptor ${fd}`, hint?: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length;) {
    try {
      at += trySys("write", name, () => writeSync(fd, bytes, at), hint);
    } catch (error) {
      if (!(error instanceof SysError) || error.errno !== EAGAIN) throw error;
    }
  }
}

/** Whoever was to read it has gone. */
export const isUnread = (error: unknown): boolean =>
  error instanceof SysError && error.errno === EPIPE;

/**
 * A regular file, there or not yet, is written aside and renamed, so that nobody reads half of it.
 * Anything else is what its owner made of it, such as /dev/null, and is written to as it is.
 */
export function writeOutput(path: string, text: string): void {
  const found = trySys("write", path, () => statSync(path, { throwIfNoEntry: false }));
  const place = trySys("write", path, () => behindLinks(path));
  const fd = descriptorAt(place);
  if (fd !== undefined) writeAll(fd, text, path);
  else if (found !== undefined && !found.isFile()) writeInto(place, text, path);
  else replaceFile(place, text, { aside: `${place}.${process.pid}`, mode: 0o644, subject: path });
}

/** Of a name such as /dev/fd/3, which stands for what is open; its file is not to be replaced. */
function descriptorAt(place: string): number | undefined {
  const fd = place.startsWith(OWN_FILES) ? Number(basename(place)) : Number.NaN;
  return Number.isInteger(fd) ? fd : undefined;
}

const OWN_FILES = `/proc/${process.pid}/fd/`;

/** Where a file of that name is, or would be made. */
function behindLinks(path: string): string {
  const place = join(realpathSync(dirname(path)), basename(path));
  const isLink = lstatSync(place, { throwIfNoEntry: false })?.isSymbolicLink() === true;
  if (!isLink || place.startsWith(OWN_FILES)) return place;
  return behindLinks(resolve(dirname(place), readlinkSync(place)));
}

function writeInto(place: string, text: string, path: string): void {
  const fd = trySys("open", path, () => openSync(place, constants.O_WRONLY)); // it is there
  try {
    writeAll(fd, text, path);
  } finally {
    closeSync(fd);
  }
}

/** `subject`: what an error is said of, if not the place itself. */
interface Replacing {
  aside: string;
  mode: number;
  subject?: string;
  hint?: string;
}

/** Writes aside and renames. Of one that fails nothing is left. */
export function replaceFile(place: string, content: string | Uint8Array, how: Replacing): void {
  const { aside, mode, subject = place, hint } = how;
  const write = (): void => {
    rmSync(aside, { force: true });
    writeFileSync(aside, content, { mode, flag: "wx" });
    renameSync(aside, place);
  };
  try {
    trySys("write", subject, write, hint);
  } catch (error) {
    if (existsSync(aside)) rmSync(aside);
    throw error;
  }
}
