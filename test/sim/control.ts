/**
 * A simulated /dev/ublk-control: the driver's control plane, as far as a server can tell.
 *
 * Answers as drivers/block/ublk_drv.c of Linux 7.2 does; `offered` and `knows` make it older.
 */

import { type Pointer, toArrayBuffer } from "bun:ffi";
import type { Channel } from "../../src/control/command.ts";
import { EACCES, EBUSY, EEXIST, EINVAL, ENODEV, EOPNOTSUPP, EPERM } from "./errno.ts";
import { refusalOf } from "./params.ts";

const NR = {
  GET_QUEUE_AFFINITY: 0x01,
  GET_DEV_INFO: 0x02,
  ADD_DEV: 0x04,
  DEL_DEV: 0x05,
  START_DEV: 0x06,
  STOP_DEV: 0x07,
  SET_PARAMS: 0x08,
  GET_PARAMS: 0x09,
  GET_DEV_INFO2: 0x12,
  GET_FEATURES: 0x13,
  START_USER_RECOVERY: 0x10,
  END_USER_RECOVERY: 0x11,
  QUIESCE_DEV: 0x16,
  TRY_STOP_DEV: 0x17,
};
const DEL_DEV_ASYNC = 0x14;
const NO_QUEUE = 0xffff;
const INFO_SIZE = 64;
const PARAMS_MAX = 160;
const DEVT_AT = 60;
const TYPE_DEVT = 1 << 2;
export const DEAD = 0;
export const LIVE = 1;
export const QUIESCED = 2;
/** COMP_IN_TASK, CMD_IOCTL_ENCODE, PER_IO_DAEMON, BUF_REG_OFF_DAEMON, SAFE_STOP_DEV. */
const ALWAYS_ON = 0x26042n;

const UNPRIVILEGED = 1n << 5n;
/** SUPPORT_ZERO_COPY, USER_COPY, AUTO_BUF_REG. */
const PRIVILEGED_DATA = 0x881n;
/** USER_RECOVERY, USER_RECOVERY_REISSUE. */
const RECOVERY = 0x18n;
const USER_RECOVERY = 0x8n;
const QUIESCE = 0x1000n;
/** DEL_DEV_ASYNC is not among them. */
const PATH_KNOWS = new Set(Object.values(NR));

export interface SimDevice {
  info: DataView;
  params: Uint8Array;
  state: number;
  /** Has been live once: it can only be deleted, or recovered. */
  used: boolean;
  /** Files that keep the char device open: of a server, or of the rings of a dead one. */
  open: boolean;
  /** Somebody has the block device open. */
  inUse: boolean;
}

/** struct ublksrv_ctrl_cmd, and the memory that it names. */
interface Header {
  id: number;
  queueId: number;
  data: number;
  pathLength: number;
  buffer: Uint8Array;
}

export class SimControl implements Channel {
  readonly devices = new Map<number, SimDevice>();
  /** Commands in the order in which they came, by number. */
  readonly log: number[] = [];
  offered = 0xfffffn;
  cpus = 2;
  /** Whether the driver knows a command; an older one answers EOPNOTSUPP. */
  knows: (nr: number) => boolean = () => true;
  /** Whether commands come from somebody with CAP_SYS_ADMIN. */
  root = true;
  /** Whether it sees the char device at the path, and the sender may open it: 0 or -errno. */
  pathCheck: (path: string) => number = () => 0;
  /** What QUIESCE_DEV answers, and what comes of it: 0 or -errno. */
  quiesced: (device: SimDevice) => number = () => 0;
  closed = false;

  async send(cmdOp: number, cmd: Uint8Array<ArrayBuffer>): Promise<number> {
    if (this.closed) throw new Error("sent on a closed channel");
    const nr = cmdOp & 0xff;
    this.log.push(nr);
    if (((cmdOp >>> 8) & 0xff) !== 0x75 || ((cmdOp >>> 16) & 0x3fff) !== 32) return -EOPNOTSUPP;
    if (!this.knows(nr)) return -EOPNOTSUPP;
    const header = readHeader(cmd);
    if (nr === NR.GET_FEATURES) return this.#features(header);
    if (nr === NR.ADD_DEV) return this.#add(header);
    const device = this.devices.get(header.id);
    if (device === undefined) return -ENODEV;
    const refusal = this.#permission(nr, device, header);
    return refusal < 0 ? refusal : this.#deviceCommand(nr, device, header);
  }

  /** ublk_ctrl_uring_cmd_permission(): takes the path off the buffer where there has to be one. */
  #permission(nr: number, device: SimDevice, header: Header): number {
    const unprivileged = (device.info.getBigUint64(24, true) & UNPRIVILEGED) !== 0n;
    if (!unprivileged && !this.root) return -EPERM;
    if (!unprivileged && nr !== NR.GET_DEV_INFO2) return 0;
    const { buffer, pathLength } = header;
    if (pathLength === 0 || pathLength > 4096 || buffer.length < pathLength) return -EINVAL;
    if (!PATH_KNOWS.has(nr)) return -EINVAL;
    const path = Buffer.from(buffer.subarray(0, pathLength)).toString();
    header.buffer = buffer.subarray(pathLength);
    return this.pathCheck(path.replace(/\0.*/, ""));
  }

  close(): void {
    this.closed = true;
  }

  #deviceCommand(nr: number, device: SimDevice, header: Header): number {
    switch (nr) {
      case NR.GET_DEV_INFO:
      case NR.GET_DEV_INFO2:
        return answerInfo(device, header.buffer);
      case NR.SET_PARAMS:
        return setParams(device, header.buffer);
      case NR.GET_PARAMS:
        return getParams(device, header);
      case NR.GET_QUEUE_AFFINITY:
        return this.#affinity(device, header);
      case NR.START_DEV:
        return start(device, header.data);
      case NR.STOP_DEV:
        setState(device, DEAD, -1);
        return 0;
      case NR.DEL_DEV:
      case DEL_DEV_ASYNC:
        this.devices.delete(header.id);
        return 0;
      case NR.START_USER_RECOVERY:
        if (!hasFlag(device, USER_RECOVERY)) return -EINVAL;
        return device.open || device.state < QUIESCED ? -EBUSY : 0;
      case NR.END_USER_RECOVERY:
        return endRecovery(device, header.data);
      case NR.QUIESCE_DEV:
        return this.#quiesce(device, header.data);
      case NR.TRY_STOP_DEV:
        if (device.state === DEAD) return -ENODEV;
        if (device.inUse) return -EBUSY;
        setState(device, DEAD, -1);
        return 0;
      default:
        return -EOPNOTSUPP;
    }
  }

  /** A timeout of 0 waits for ever, holding the device's mutex. */
  #quiesce(device: SimDevice, timeoutMs: number): number {
    if (!hasFlag(device, QUIESCE)) return -EOPNOTSUPP;
    if (timeoutMs === 0) throw new Error("QUIESCE_DEV without a bound");
    return device.state === DEAD ? -ENODEV : this.quiesced(device);
  }

  #features({ buffer }: Header): number {
    if (buffer.length !== 8) return -EINVAL;
    view(buffer).setBigUint64(0, this.offered, true);
    return 0;
  }

  #add({ id, queueId, buffer }: Header): number {
    if (buffer.length < INFO_SIZE || queueId !== NO_QUEUE) return -EINVAL;
    const info = new DataView(buffer.slice(0, INFO_SIZE).buffer);
    const [queues, depth] = [info.getUint16(0, true), info.getUint16(2, true)];
    if (depth === 0 || depth > 4096 || queues === 0 || queues > 4096) return -EINVAL;
    if (info.getUint32(12, true) !== id) return -EINVAL;
    const chosen = id === 0xffffffff ? this.#freeId() : id;
    if (this.devices.has(chosen)) return -EEXIST;
    info.setUint32(12, chosen, true);
    info.setUint16(0, Math.min(queues, this.cpus), true);
    info.setUint32(8, info.getUint32(8, true) & ~4095, true);
    const asked = info.getBigUint64(24, true);
    const refusal = this.#flagsRefused(asked);
    if (refusal < 0) return refusal;
    let flags = (asked | ALWAYS_ON) & this.offered;
    flags &= ~(this.root ? UNPRIVILEGED : RECOVERY);
    info.setBigUint64(24, flags, true);
    const device = {
      info,
      params: new Uint8Array(PARAMS_MAX),
      state: DEAD,
      used: false,
      ...{ open: false, inUse: false },
    };
    setState(device, DEAD, -1);
    this.devices.set(chosen, device);
    return answerInfo(device, buffer);
  }

  #flagsRefused(asked: bigint): number {
    if (this.root) return 0;
    if ((asked & UNPRIVILEGED) === 0n) return -EPERM;
    return (asked & PRIVILEGED_DATA) === 0n ? 0 : -EINVAL;
  }

  #freeId(): number {
    let id = 0;
    while (this.devices.has(id)) id++;
    return id;
  }

  /** CPUs are dealt to queues by turns. */
  #affinity(device: SimDevice, { buffer, data }: Header): number {
    const queues = device.info.getUint16(0, true);
    if (data >= queues || buffer.length * 8 < this.cpus || buffer.length % 8 !== 0) return -EINVAL;
    buffer.fill(0);
    for (let cpu = data; cpu < this.cpus; cpu += queues) buffer[cpu >> 3]! |= 1 << (cpu & 7);
    return 0;
  }
}

function readHeader(cmd: Uint8Array<ArrayBuffer>): Header {
  const header = view(cmd);
  const length = header.getUint16(6, true);
  const address = Number(header.getBigUint64(8, true));
  const memory = length === 0 ? new ArrayBuffer(0) : toArrayBuffer(address as Pointer, 0, length);
  return {
    id: header.getUint32(0, true),
    queueId: header.getUint16(4, true),
    data: Number(header.getBigUint64(16, true)),
    pathLength: header.getUint16(24, true),
    buffer: new Uint8Array(memory),
  };
}

function answerInfo(device: SimDevice, buffer: Uint8Array): number {
  if (buffer.length < INFO_SIZE) return -EINVAL;
  buffer.set(new Uint8Array(device.info.buffer));
  return 0;
}

function setParams(device: SimDevice, buffer: Uint8Array): number {
  const length = view(buffer).getUint32(0, true);
  if (length > buffer.length || length === 0) return -EINVAL;
  if (device.used) return -EACCES;
  const refusal = refusalOf(buffer, device.info.getUint32(8, true));
  if (refusal !== undefined) return -EINVAL;
  device.params.fill(0);
  device.params.set(buffer.subarray(0, Math.min(length, PARAMS_MAX)));
  return 0;
}

/** The device numbers are the driver's own: 240:N for the char device, 259:N for the disk. */
function getParams(device: SimDevice, { buffer, id }: Header): number {
  const length = view(buffer).getUint32(0, true);
  if (buffer.length <= 8 || length > buffer.length || length === 0) return -EINVAL;
  const params = view(device.params);
  params.setUint32(4, params.getUint32(4, true) | TYPE_DEVT, true);
  const numbers = device.state === LIVE ? [240, id, 259, id] : [240, id, 0, 0];
  numbers.forEach((number, at) => params.setUint32(DEVT_AT + at * 4, number, true));
  buffer.set(device.params.subarray(0, Math.min(length, PARAMS_MAX)));
  return 0;
}

function start(device: SimDevice, pid: number): number {
  if (pid <= 0 || view(device.params).getUint32(0, true) === 0) return -EINVAL;
  if (device.used) return -EEXIST;
  device.used = true;
  setState(device, LIVE, pid);
  return 0;
}

export function setState(device: SimDevice, state: number, pid: number): void {
  device.state = state;
  device.info.setUint16(4, state, true);
  device.info.setInt32(16, pid, true);
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const hasFlag = (device: SimDevice, flag: bigint): boolean =>
  (device.info.getBigUint64(24, true) & flag) !== 0n;

function endRecovery(device: SimDevice, pid: number): number {
  if (pid <= 0 || !hasFlag(device, USER_RECOVERY)) return -EINVAL;
  if (device.state < QUIESCED) return -EBUSY;
  setState(device, LIVE, pid);
  return 0;
}
