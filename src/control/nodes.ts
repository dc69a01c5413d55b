/** A device's nodes in /dev: what they are called, and from when on we may open them. */

import { accessSync, constants, existsSync, statSync } from "node:fs";
import { EACCES, ETIMEDOUT, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";

export const charDevice = (id: number): string => `/dev/ublkc${id}`;
export const blockDevice = (id: number): string => `/dev/ublkb${id}`;

export const CLASS = "/sys/class/ublk-char";
/** There is no such device, or somebody deletes it: DEL_DEV takes it out of sysfs at once. */
const GONE = 0;
const NO_SYSFS = -1;

/** Tells devices that had one id apart: sysfs gives a number to each, and none of them twice. */
export function incarnation(id: number, sysfs = CLASS): number {
  const found = statSync(`${sysfs}/ublkc${id}`, { throwIfNoEntry: false });
  return found?.ino ?? (existsSync(sysfs) ? GONE : NO_SYSFS);
}

/**
 * One of the devices that may have an id, one after the other. One that is hidden already, or where
 * there is no sysfs, cannot be told from the next.
 */
export class Identity {
  readonly id: number;
  readonly incarnation: number;
  readonly #look: typeof incarnation;

  constructor(id: number, is?: number, look = incarnation) {
    this.id = id;
    this.incarnation = is ?? look(id);
    this.#look = look;
  }

  /** Some device of this id is there, and nobody deletes it. */
  get isVisible(): boolean {
    return this.#look(this.id) > GONE;
  }

  /** Somebody deletes it: DEL_DEV waits until nobody has it open, and has it hidden by then. */
  get isGone(): boolean {
    return this.#look(this.id) === GONE || this.isReplaced;
  }

  /** The id is another device's by now. */
  get isReplaced(): boolean {
    const now = this.#look(this.id);
    return this.incarnation > GONE && now > GONE && now !== this.incarnation;
  }
}

const PAUSE_MS = 10;
const APPEAR_MS = 5000;
/** An ordinary user waits for udev and for the program that its rules start. */
const HAND_OVER_MS = 10_000;

/** The open char device, for the server of a device that was just added. */
export async function openCharDevice(id: number): Promise<number> {
  const path = charDevice(id);
  await appears(id, path);
  // O_NONBLOCK: io_uring then copies user-copy data at once instead of in a worker thread.
  return handedOver(id, path, () => libc.open(path, libc.O_RDWR | libc.O_NONBLOCK));
}

/** Resolves once whoever added the device can use its block device. */
export async function blockDeviceUsable(id: number): Promise<void> {
  const path = blockDevice(id);
  await appears(id, path);
  await handedOver(id, path, () => accessSync(path, constants.R_OK | constants.W_OK));
}

/**
 * A node appears a moment after its device where udev, not devtmpfs, makes it. In a container it is
 * mounted over a plain file.
 */
async function appears(id: number, path: string): Promise<void> {
  for (let waited = 0; !isDevice(path); waited += PAUSE_MS) {
    if (incarnation(id) === GONE) throw wasDeleted(id);
    if (waited >= APPEAR_MS) {
      const hint = "is /dev a devtmpfs, or does udev run?";
      throw new SysError({ op: "wait for", errno: ETIMEDOUT, subject: path, hint });
    }
    await Bun.sleep(PAUSE_MS);
  }
}

function isDevice(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  return found !== undefined && (found.isCharacterDevice() || found.isBlockDevice());
}

/** Tries until we may: the nodes of an ordinary user's device are root's at first. */
async function handedOver<T>(id: number, path: string, attempt: () => T): Promise<T> {
  for (let waited = 0; ; waited += PAUSE_MS) {
    try {
      return attempt();
    } catch (error) {
      if (!isDenied(error)) throw error;
      if (waited >= HAND_OVER_MS) throw notHandedOver(id, path);
    }
    await Bun.sleep(PAUSE_MS);
  }
}

function isDenied(error: unknown): boolean {
  if (error instanceof SysError) return error.errno === EACCES;
  return (error as NodeJS.ErrnoException).code === "EACCES";
}

/** Somebody else did it, while its server was about to begin. */
export function wasDeleted(id: number): SysError {
  const reason = "was deleted before it was ready";
  const hint = "somebody ended it meanwhile (ublk del, ublk del -a): try again";
  return new SysError({ op: "start", errno: 0, subject: `device ${id}`, reason, hint });
}

function notHandedOver(id: number, path: string): SysError {
  return new SysError({
    op: "open",
    errno: EACCES,
    subject: path,
    reason: `EACCES, and nobody gave it to you in ${HAND_OVER_MS / 1000} s: udev rules are missing`,
    hint:
      "as root: ublk udev-rules > /etc/udev/rules.d/60-ublk.rules && udevadm control --reload " +
      `&& ublk del -n ${id}`,
  });
}
