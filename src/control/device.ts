/** A device as the driver knows it: the commands by name, and what they answer, decoded. */

import { readdirSync } from "node:fs";
import { EINVAL, ENOENT, ENOTSUPP, EOPNOTSUPP, SysError } from "../../ffi/errno.ts";
import {
  type DevInfo,
  STATES,
  UBLK_PARAM_TYPE_DEVT,
  ublkParams,
  ublksrvCtrlDevInfo,
} from "../../ffi/ublk_cmd.ts";
import { type Channel, execute } from "./command.ts";

const FEATURES_SIZE = 8;
/** 4096 CPUs: more than any kernel is built for. */
const CPU_MASK_SIZE = 512;

export { blockDevice, charDevice } from "./nodes.ts";

export async function getFeatures(channel: Channel): Promise<bigint> {
  const buffer = new Uint8Array(new ArrayBuffer(FEATURES_SIZE));
  await execute(channel, { name: "UBLK_U_CMD_GET_FEATURES", id: -1, buffer });
  return new DataView(buffer.buffer).getBigUint64(0, true);
}

/** Answers what the driver made of the wish: id, queues, buffer size and flags may differ. */
export async function addDevice(
  channel: Channel,
  id: number,
  wish: Pick<DevInfo, "nr_hw_queues" | "queue_depth" | "max_io_buf_bytes" | "flags">,
): Promise<DevInfo> {
  const buffer = ublksrvCtrlDevInfo.encode({ ...wish, dev_id: id >>> 0 });
  await execute(channel, { name: "UBLK_U_CMD_ADD_DEV", id, buffer });
  return ublksrvCtrlDevInfo.decode(buffer);
}

export async function setParams(
  channel: Channel,
  id: number,
  buffer: Uint8Array<ArrayBuffer>,
): Promise<void> {
  await execute(channel, { name: "UBLK_U_CMD_SET_PARAMS", id, buffer });
}

export type Params = ReturnType<typeof ublkParams.decode>;

export async function getParams(channel: Channel, id: number): Promise<Params> {
  const buffer = ublkParams.encode({ len: ublkParams.size, types: UBLK_PARAM_TYPE_DEVT });
  await execute(channel, { name: "UBLK_U_CMD_GET_PARAMS", id, buffer });
  return ublkParams.decode(buffer);
}

/** Returns when every queue has fetched and the block device exists. */
export async function startDevice(channel: Channel, id: number): Promise<void> {
  await execute(channel, { name: "UBLK_U_CMD_START_DEV", id, data: process.pid });
}

/** Of a LIVE device only: an older driver does not look (25966fc09769). */
export async function updateSize(channel: Channel, id: number, sectors: number): Promise<void> {
  await execute(channel, { name: "UBLK_U_CMD_UPDATE_SIZE", id, data: sectors });
}

/** EBUSY while the last server's files are still in use, or where there is nothing to recover. */
export async function startRecovery(channel: Channel, id: number): Promise<void> {
  await execute(channel, { name: "UBLK_U_CMD_START_USER_RECOVERY", id });
}

/** Returns when every queue has fetched and the block device goes on. */
export async function endRecovery(channel: Channel, id: number): Promise<void> {
  await execute(channel, { name: "UBLK_U_CMD_END_USER_RECOVERY", id, data: process.pid });
}

/** From here on the device takes no IO, also when this fails. A timeout of 0 would be for ever. */
export async function quiesceDevice(channel: Channel, id: number, ms: number): Promise<void> {
  await execute(channel, { name: "UBLK_U_CMD_QUIESCE_DEV", id, data: ms });
}

/** As stopDevice, but EBUSY while somebody has the block device open (Linux 7.0). */
export async function tryStopDevice(channel: Channel, id: number): Promise<void> {
  await execute(channel, { name: "UBLK_U_CMD_TRY_STOP_DEV", id });
}

export async function stopDevice(channel: Channel, id: number): Promise<void> {
  await execute(channel, { name: "UBLK_U_CMD_STOP_DEV", id });
}

/** Returns when nobody holds the device any more and its id is free. */
export async function deleteDevice(channel: Channel, id: number): Promise<void> {
  await execute(channel, { name: "UBLK_U_CMD_DEL_DEV", id });
}

/** Returns at once: the id is free when the last one has let go. */
export async function deleteDeviceAsync(channel: Channel, id: number): Promise<void> {
  await execute(channel, { name: "UBLK_U_CMD_DEL_DEV_ASYNC", id });
}

/** An older driver, or one that cannot see the path we name, is asked the older way. */
export async function getDevInfo(channel: Channel, id: number): Promise<DevInfo> {
  const buffer = ublksrvCtrlDevInfo.encode({});
  try {
    await execute(channel, { name: "UBLK_U_CMD_GET_DEV_INFO2", id, buffer });
    return ublksrvCtrlDevInfo.decode(buffer);
  } catch (error) {
    const older = [EOPNOTSUPP, ENOTSUPP, EINVAL, ENOENT];
    if (!(error instanceof SysError) || !older.includes(error.errno)) throw error;
  }
  const info = ublksrvCtrlDevInfo.encode({});
  await execute(channel, { name: "UBLK_U_CMD_GET_DEV_INFO", id, buffer: info });
  return ublksrvCtrlDevInfo.decode(info);
}

/** The CPUs whose requests come to this queue, as a cpu_set_t. */
export async function getQueueAffinity(
  channel: Channel,
  id: number,
  queueId: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const buffer = new Uint8Array(new ArrayBuffer(CPU_MASK_SIZE));
  const name = "UBLK_U_CMD_GET_QUEUE_AFFINITY";
  await execute(channel, { name, id, buffer, data: queueId });
  return buffer;
}

export function cpusOf(mask: Uint8Array): number[] {
  const cpus: number[] = [];
  mask.forEach((byte, index) => {
    for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) cpus.push(index * 8 + bit);
  });
  return cpus;
}

/** The other way round. */
export function cpuMask(cpus: readonly number[]): Uint8Array<ArrayBuffer> {
  const mask = new Uint8Array(new ArrayBuffer(CPU_MASK_SIZE));
  for (const cpu of cpus) mask[cpu >> 3]! |= 1 << (cpu & 7);
  return mask;
}

export function stateName(info: DevInfo): string {
  return STATES[info.state] ?? `STATE_${info.state}`;
}

/** The ids that exist now, in order. sysfs knows them whatever /dev looks like. */
export function deviceIds(): number[] {
  try {
    const names = readdirSync("/sys/class/ublk-char");
    const ids = names.map((name) => /^ublkc(\d+)$/.exec(name)?.[1]);
    return ids
      .filter((id) => id !== undefined)
      .map(Number)
      .toSorted((a, b) => a - b);
  } catch {
    return []; // the driver is not loaded: there are none
  }
}
