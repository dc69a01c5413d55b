/** Another size for a live device: its server, then the driver, then its server again. */

import { readFileSync, writeFileSync } from "node:fs";
import { EBUSY, EINVAL, EOPNOTSUPP, SysError } from "../../ffi/errno.ts";
import type { Channel } from "./command.ts";
import { getDevInfo, getFeatures, getParams, stateName, updateSize } from "./device.ts";
import { flagBit } from "./features.ts";
import { Conversation } from "./mailbox.ts";
import type { ResizeAnswer, ResizeQuestion } from "./resize_server.ts";
import { readState } from "./state.ts";

/** Undefined: what the backing has now. */
export type WantedSize = { bytes: number; more: boolean } | undefined;

export interface Resized {
  from: number;
  to: number;
}

const SECTOR = 512;

/** Throws SysError; what has been done by then is said in it. */
export async function resizeDevice(
  channel: Channel,
  id: number,
  wanted: WantedSize,
  shrink: boolean,
): Promise<Resized> {
  await refuseUnable(channel, id);
  const { basic } = await getParams(channel, id);
  const from = Number(basic.dev_sectors ?? 0) * SECTOR;
  const to = wanted && (wanted.more ? from + wanted.bytes : wanted.bytes);
  refuseSize(id, to, 2 ** (basic.logical_bs_shift ?? 0));
  const server = await Conversation.with(id);
  try {
    return await resizeWith(server, channel, id, { ask: "resize", from, shrink, ...opt(to) });
  } finally {
    server.close();
  }
}

const opt = (to: number | undefined): { to?: number } => (to === undefined ? {} : { to });

async function resizeWith(
  server: Conversation,
  channel: Channel,
  id: number,
  question: ResizeQuestion,
): Promise<Resized> {
  const { from, shrink } = question;
  const { to } = (await server.ask(question)) as ResizeAnswer;
  if (to !== from) {
    try {
      await updateSize(channel, id, to / SECTOR);
    } catch (error) {
      throw to > from ? halfDone(error, `its backing is ready for ${to} bytes`) : error;
    }
  }
  if (to < from) drain(id);
  try {
    await server.ask({ ask: "resized", from, to, shrink });
  } catch (error) {
    throw halfDone(error, `the device has ${to} bytes already`);
  }
  return { from, to };
}

/** Everything that forbids it before anything is changed. */
async function refuseUnable(channel: Channel, id: number): Promise<void> {
  const refuse = (errno: number, reason: string, hint: string): never => {
    throw new SysError({ op: "resize", errno, subject: `device ${id}`, reason, hint });
  };
  const info = await getDevInfo(channel, id);
  const offered = await getFeatures(channel);
  if ((offered & flagBit("UBLK_F_UPDATE_SIZE")) === 0n) {
    const reason = "this kernel's driver cannot change the size of a device (UBLK_F_UPDATE_SIZE)";
    refuse(EOPNOTSUPP, reason, "Linux 6.16 can; here: del, resize the image, add");
  }
  if (readState(id) === undefined) {
    refuse(EOPNOTSUPP, "is served by another program", "that one would have to do it");
  }
  const state = stateName(info);
  if (state === "LIVE") return;
  const recovers = state === "QUIESCED" || state === "FAIL_IO";
  const way = recovers ? `ublk recover -n ${id} first` : `ublk del -n ${id} removes it`;
  refuse(EBUSY, `is ${state}, not LIVE: nobody serves it`, way);
}

function refuseSize(id: number, to: number | undefined, block: number): void {
  if (to === undefined || (to > 0 && to % block === 0)) return;
  const reason = `${to} bytes are no positive multiple of its block size ${block}`;
  throw new SysError({ op: "resize", errno: EINVAL, subject: `device ${id}`, reason });
}

function halfDone(error: unknown, what: string): unknown {
  if (!(error instanceof SysError)) return error;
  const { op, errno, subject, message } = error;
  const reason = `${message.slice(message.indexOf(": ") + 2)}; ${what}`;
  const hint = "no data is lost; say the same again when the cause is gone";
  return new SysError({ op, errno, ...(subject === undefined ? {} : { subject }), reason, hint });
}

/**
 * Returns when no request is under way that was let in before the device shrank: a setting of the
 * queue that is written, be it to what it is, makes the kernel freeze the queue (blk-sysfs.c).
 */
function drain(id: number): void {
  const setting = `/sys/block/ublkb${id}/queue/iostats`;
  try {
    writeFileSync(setting, readFileSync(setting));
  } catch {
    // without sysfs a late write fails, or makes a file longer than its disk
  }
}
