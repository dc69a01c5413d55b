/**
 * Gives the nodes of an ordinary user's device to that user. udev's rules run it as root.
 *
 * Nobody is believed but the driver. The node is opened first, by a name that is followed nowhere,
 * and only then the driver is asked whose the device is: should another device have taken the
 * number meanwhile, what we hold is a node that is not in /dev any more. The mode is narrowed
 * before the owner changes, so that no group gets what the owner will have.
 */

import { fstatSync, type Stats } from "node:fs";
import { EINVAL, ETIMEDOUT, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import type { DevInfo } from "../../ffi/ublk_cmd.ts";
import type { Channel } from "./command.ts";
import { getDevInfo, getParams, type Params } from "./device.ts";
import { has } from "./features.ts";
import { within } from "./within.ts";

const NODE = /^\/dev\/ublk([bc])(0|[1-9]\d{0,6})$/;
/** A hostile server can keep the driver from answering; udev's workers are few. */
const ANSWER_MS = 10_000;

/** Answers whether the node has been given away; root's own devices stay as they are. */
export async function handOver(channel: Channel, path: string): Promise<boolean> {
  const [, kind, number] = NODE.exec(path) ?? [];
  if (number === undefined) {
    throw refused(path, "is no node of a ublk device", "give /dev/ublkcN or /dev/ublkbN");
  }
  const node = libc.open(path, libc.O_PATH | libc.O_NOFOLLOW);
  try {
    const { info, params } = await askDriver(channel, Number(number), path);
    if (!has(info.flags, "UBLK_F_UNPRIVILEGED_DEV")) return false;
    if (!isNodeOf(fstatSync(node), kind!, params)) {
      throw refused(path, "has not the device's number", `look at it: ls -l ${path}`);
    }
    libc.fchmod(node, 0o600);
    libc.fchown(node, info.owner_uid, info.owner_gid);
    return true;
  } finally {
    libc.close(node);
  }
}

interface Facts {
  info: DevInfo;
  params: Params;
}

async function askDriver(channel: Channel, id: number, path: string): Promise<Facts> {
  const ask = async (): Promise<Facts> => {
    const info = await getDevInfo(channel, id);
    return { info, params: await getParams(channel, id) };
  };
  const asked = ask();
  if (await within(ANSWER_MS, asked)) return asked;
  throw new SysError({ op: "hand over", errno: ETIMEDOUT, subject: path });
}

function isNodeOf(node: Stats, kind: string, { devt }: Params): boolean {
  const [major, minor] = deviceNumber(node.rdev);
  return kind === "c"
    ? node.isCharacterDevice() && major === devt.char_major && minor === devt.char_minor
    : node.isBlockDevice() && major === devt.disk_major && minor === devt.disk_minor;
}

/** The kernel's 12 bits of major and 20 of minor (new_encode_dev() in linux/kdev_t.h). */
export function deviceNumber(rdev: number): [major: number, minor: number] {
  return [(rdev >>> 8) & 0xfff, (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)];
}

function refused(path: string, reason: string, hint: string): SysError {
  return new SysError({ op: "hand over", errno: EINVAL, subject: path, reason, hint });
}
