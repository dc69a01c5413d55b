/** A device as `list` and `add` show it: what the driver and the state file know, in one object. */

import { type DevInfo, UBLK_ATTR_READ_ONLY } from "../../ffi/ublk_cmd.ts";
import type { Channel } from "./command.ts";
import {
  blockDevice,
  charDevice,
  cpusOf,
  getDevInfo,
  getParams,
  getQueueAffinity,
  stateName,
} from "./device.ts";
import { flagBit, flagWords, modeOf } from "./features.ts";
import { readState } from "./state.ts";

/** The schema of `--json`: names as in the UAPI where it has one. Sectors are 512 bytes. */
export interface DeviceView {
  dev_id: number;
  block_device: string;
  char_device: string;
  state: string;
  /** The daemon; -1 when nobody serves the device. */
  ublksrv_pid: number;
  nr_hw_queues: number;
  queue_depth: number;
  max_io_buf_bytes: number;
  flags: number;
  flag_names: string[];
  /** How data moves, which the flags decide: a name of `--mode`. */
  mode: string;
  /** Commands travel in batches. */
  batch: boolean;
  logical_block_size: number;
  physical_block_size: number;
  dev_sectors: number;
  read_only: boolean;
  owner_uid: number;
  owner_gid: number;
  char_major: number;
  char_minor: number;
  disk_major: number;
  disk_minor: number;
  queues: QueueView[];
  /** As the target describes its disk; empty for a device that another server made. */
  target: Record<string, string | number | boolean>;
}

export interface QueueView {
  q_id: number;
  /** The first of the threads that serve the queue; -1 when unknown. */
  tid: number;
  affinity: number[];
}

export async function viewDevice(channel: Channel, id: number): Promise<DeviceView> {
  const info = await getDevInfo(channel, id);
  const { basic, devt } = await getParams(channel, id);
  const state = readState(id);
  const queues: QueueView[] = [];
  for (let q = 0; q < info.nr_hw_queues; q++) {
    const affinity = state?.affinity[q] ?? cpusOf(await getQueueAffinity(channel, id, q));
    queues.push({ q_id: q, tid: state?.tids[q]?.[0] ?? -1, affinity });
  }
  return {
    dev_id: id,
    block_device: blockDevice(id),
    char_device: charDevice(id),
    state: stateName(info),
    ublksrv_pid: serverOf(info),
    nr_hw_queues: info.nr_hw_queues,
    queue_depth: info.queue_depth,
    max_io_buf_bytes: info.max_io_buf_bytes,
    flags: Number(info.flags),
    flag_names: flagWords(info.flags),
    mode: modeOf(info.flags),
    batch: (info.flags & flagBit("UBLK_F_BATCH_IO")) !== 0n,
    logical_block_size: 2 ** (basic.logical_bs_shift ?? 0),
    physical_block_size: 2 ** (basic.physical_bs_shift ?? 0),
    dev_sectors: Number(basic.dev_sectors ?? 0),
    read_only: ((basic.attrs ?? 0) & UBLK_ATTR_READ_ONLY) !== 0,
    owner_uid: info.owner_uid,
    owner_gid: info.owner_gid,
    char_major: devt.char_major ?? 0,
    char_minor: devt.char_minor ?? 0,
    disk_major: devt.disk_major ?? 0,
    disk_minor: devt.disk_minor ?? 0,
    queues,
    target: state?.report ?? {},
  };
}

/** Linux 6.12 goes on naming a server that has died, until another takes over. */
function serverOf(info: DevInfo): number {
  return stateName(info) === "LIVE" ? info.ublksrv_pid : -1;
}
