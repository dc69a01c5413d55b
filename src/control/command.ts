/** One control command: encoded, sent to /dev/ublk-control, and its failure explained. */

import { ptr } from "bun:ffi";
import * as errno from "../../ffi/errno.ts";
import { SysError } from "../../ffi/errno.ts";
import { prepCommand, setUserData, SQE_CMD } from "../../ffi/io_uring.ts";
import { IORING_SETUP_SQE128, KernelRing } from "../../ffi/kernel_ring.ts";
import * as libc from "../../ffi/libc.ts";

import { CTRL, type CtrlName, ublksrvCtrlCmd, ublksrvCtrlDevInfo } from "../../ffi/ublk_cmd.ts";
import { isSystemRoot } from "./caller.ts";
import { has } from "./features.ts";
import { charDevice } from "./nodes.ts";

const CONTROL_DEVICE = "/dev/ublk-control";
const NO_QUEUE = 0xffff;
/** How long one look at the ring may keep the thread from its other work. */
const SLICE_MS = 10;

export interface Command {
  name: CtrlName;
  /** -1 where the driver chooses, or where no device is meant. */
  id: number;
  /** Read or filled by the driver. */
  buffer?: Uint8Array<ArrayBuffer>;
  data?: number;
}

/** Carries a `struct ublksrv_ctrl_cmd` to the driver and its result back: >= 0 or -errno. */
export interface Channel {
  send(cmdOp: number, cmd: Uint8Array<ArrayBuffer>): Promise<number>;
  close(): void;
}

/** A channel of its own for as long as `work` takes. */
export async function withChannel<T>(work: (channel: Channel) => Promise<T>): Promise<T> {
  const channel = new KernelChannel();
  try {
    return await work(channel);
  } finally {
    channel.close();
  }
}

/** /dev/ublk-control behind a ring of its own. Several commands may be under way at once. */
export class KernelChannel implements Channel {
  readonly #fd: number;
  readonly #ring: KernelRing;
  readonly #waiting = new Map<number, (result: number) => void>();
  #lastId = 0;
  #pumping = false;
  #closed = false;

  constructor() {
    this.#fd = openControl();
    this.#ring = new KernelRing(8, [IORING_SETUP_SQE128]);
    this.#ring.registerFiles([this.#fd]);
  }

  send(cmdOp: number, cmd: Uint8Array<ArrayBuffer>): Promise<number> {
    const sqe = this.#ring.nextSqe();
    const sqes = this.#ring.sqes;
    prepCommand(sqes, sqe, 0, cmdOp, 0, 0, 0);
    sqes.set(new Int32Array(cmd.buffer), sqe + SQE_CMD);
    const id = ++this.#lastId;
    setUserData(sqes, sqe, id, 0);
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      void this.#pump();
    });
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#waiting.size > 0 && !this.#closed) {
      this.#ring.waitFor(SLICE_MS);
      for (let ready = this.#ring.cqReady(); ready > 0; ready--) {
        const id = this.#ring.cqSlot();
        const result = this.#ring.cqRes();
        this.#ring.cqAdvance();
        this.#waiting.get(id)?.(result);
        this.#waiting.delete(id);
      }
      // Signals and messages of the Workers get their turn; after the last answer, no delay.
      if (this.#waiting.size > 0) await Bun.sleep(1);
    }
    this.#pumping = false;
  }

  /** Commands that are still under way are interrupted and never answered. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ring.close();
    libc.close(this.#fd);
  }
}

function openControl(): number {
  try {
    return libc.open(CONTROL_DEVICE, libc.O_RDWR);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    if (error.errno === errno.ENOENT || error.errno === errno.ENODEV) {
      throw error.withHint("load ublk_drv: modprobe ublk_drv (Linux 6.5 or newer has it)");
    }
    if (isSystemRoot()) throw error;
    throw error.withHint("run as root, or let root install the rules of ublk udev-rules");
  }
}

/** Sends a command and answers its result; a failure becomes a SysError that names it. */
export async function execute(channel: Channel, command: Command): Promise<number> {
  const path = (await wantsPath(channel, command)) ? pathBytes(command.id) : NO_PATH;
  const buffer = path.length === 0 ? command.buffer : joined(path, command.buffer);
  const cmd = ublksrvCtrlCmd.encode({
    dev_id: command.id >>> 0,
    queue_id: NO_QUEUE,
    len: buffer?.byteLength ?? 0,
    addr: buffer === undefined ? 0n : BigInt(ptr(buffer)),
    data: BigInt(command.data ?? 0),
    dev_path_len: path.length,
  });
  const result = await channel.send(CTRL[command.name], cmd);
  if (result < 0) throw explain(command, -result);
  if (buffer !== command.buffer) command.buffer?.set(buffer!.subarray(path.length));
  learn(channel, command);
  return result;
}

/**
 * Each command on an ordinary user's device has the char device's path in front of its buffer, for
 * the driver to see whether the sender may open that. On root's devices only GET_DEV_INFO2 has it;
 * so what kind a device is must be known first, and a channel that has not heard of it asks.
 */
async function wantsPath(channel: Channel, command: Command): Promise<boolean> {
  const { name, id } = command;
  if (name === "UBLK_U_CMD_GET_DEV_INFO2") return true;
  if (PATHLESS.has(name)) return false;
  const known = unprivileged.get(channel)?.get(id);
  if (known !== undefined) return known;
  const buffer = ublksrvCtrlDevInfo.encode({});
  try {
    await execute(channel, { name: "UBLK_U_CMD_GET_DEV_INFO2", id, buffer });
  } catch (error) {
    // Without the path the driver would say no more than EINVAL.
    if (error instanceof SysError && error.errno === errno.EACCES) {
      throw explain(command, error.errno);
    }
    return false; // the command itself will be told why
  }
  return unprivileged.get(channel)?.get(id) ?? false;
}

/** GET_DEV_INFO is for drivers that know neither the path nor devices of ordinary users. */
const PATHLESS = new Set<CtrlName>([
  "UBLK_U_CMD_GET_FEATURES",
  "UBLK_U_CMD_ADD_DEV",
  "UBLK_U_CMD_GET_DEV_INFO",
]);
const NO_PATH = new Uint8Array(0);

const pathBytes = (id: number): Uint8Array => Buffer.from(`${charDevice(id)}\0`);

function joined(path: Uint8Array, buffer?: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(new ArrayBuffer(path.length + (buffer?.length ?? 0)));
  both.set(path);
  if (buffer !== undefined) both.set(buffer, path.length);
  return both;
}

/** By channel and id: is the device an ordinary user's? */
const unprivileged = new WeakMap<Channel, Map<number, boolean>>();

function learn(channel: Channel, { name, id, buffer }: Command): void {
  if (name === "UBLK_U_CMD_DEL_DEV") unprivileged.get(channel)?.delete(id);
  if (name !== "UBLK_U_CMD_ADD_DEV" && name !== "UBLK_U_CMD_GET_DEV_INFO2") return;
  const info = ublksrvCtrlDevInfo.decode(buffer!);
  const devices = unprivileged.get(channel) ?? new Map<number, boolean>();
  devices.set(info.dev_id, has(info.flags, "UBLK_F_UNPRIVILEGED_DEV"));
  unprivileged.set(channel, devices);
}

function explain(command: Command, code: number): SysError {
  const facts = { op: command.name, errno: code };
  const error = new SysError(
    command.id < 0 ? facts : { ...facts, subject: `device ${command.id}` },
  );
  const hint = hintFor(command, code);
  return hint === undefined ? error : error.withHint(hint);
}

function hintFor(command: Command, code: number): string | undefined {
  if (code === errno.EPERM || code === errno.EACCES) return permissionHint(command, code);
  if (code === errno.ENODEV) {
    return `there is no ublk device ${command.id}; ublk list shows those that exist`;
  }
  if (code === errno.EEXIST && command.name === "UBLK_U_CMD_ADD_DEV") {
    return "that id is taken: choose another with -n, or leave -n out";
  }
  if (code === errno.EOPNOTSUPP || code === errno.ENOTSUPP) {
    return "this kernel's ublk_drv does not know the command; Linux 6.5 or newer does";
  }
  return undefined;
}

function permissionHint(command: Command, code: number): string {
  if (command.name !== "UBLK_U_CMD_ADD_DEV") return "run as root, or as the device's owner";
  if (code === errno.EPERM) return "run as root, or add --unprivileged";
  const limit = "/sys/module/ublk_drv/parameters/ublks_max";
  return `ordinary users have as many devices as the driver allows them: root can raise ${limit}`;
}
