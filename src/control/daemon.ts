/** The server process: from an open disk to a live device, and back to nothing. */

import { PAGE_SIZE, roundUp } from "../../ffi/arena.ts";
import { EAGAIN, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import {
  type DevInfo,
  IOD_SIZE,
  UBLK_MAX_QUEUE_DEPTH,
  UBLKSRV_CMD_BUF_OFFSET,
} from "../../ffi/ublk_cmd.ts";
import type { AnyTarget, OpenDisk } from "../target/target.ts";
import { oneCpu } from "./affinity.ts";
import { type Channel, KernelChannel } from "./command.ts";
import * as device from "./device.ts";
import { type AskedFeatures, choose, flagBit, flagWords, modeOf } from "./features.ts";
import { encodeParams } from "./params.ts";
import { isolate } from "./isolate.ts";
import { type AskedLimits, withLimits } from "./limits.ts";
import { startEnder } from "./launch.ts";
import type { Log, LogLevel } from "./log.ts";
import { openMailbox } from "./mailbox.ts";
import { blockDeviceUsable, openCharDevice } from "./nodes.ts";
import { isDenied, isGone } from "./remove.ts";
import { ResizeServer } from "./resize_server.ts";
import { readAllStates, removeState, writeState } from "./state.ts";
import { prepareStateDirectory } from "./state_directory.ts";
import { type Counters, makeCounters } from "./stats.ts";
import {
  dealQueues,
  type MappedQueue,
  type MappedQueueShares,
  type Thread,
  type ThreadPlan,
} from "./threads.ts";

/** What `add` wants; plain data, as it crosses from the command line to the daemon. */
export interface ServePlan {
  target: string;
  config: unknown;
  /** -1: the driver chooses. */
  id: number;
  queues: number;
  depth: number;
  maxIoBytes: number;
  features: AskedFeatures;
  zeroCopyMin: number;
  /** Microseconds to look for completions before sleeping. */
  pollUs: number;
  limits: AskedLimits;
  /** Somebody typed a passphrase, which is handed over beside the plan. */
  secret: boolean;
  /** CPU sets by queue id, instead of the driver's. */
  affinity: number[][];
  /** 0: one a queue. */
  threads: number;
  logLevel: LogLevel;
}

/** What only the process's entry can give: the targets and the Worker. */
export interface Host {
  target: AnyTarget;
  log: Log;
  startThread(plan: ThreadPlan): Thread;
  secret?: string | undefined;
}

/** Serves until the device is stopped. `onLive` is told the id once the block device exists. */
export async function serve(
  plan: ServePlan,
  host: Host,
  onLive: (id: number) => Promise<void>,
): Promise<void> {
  prepareStateDirectory();
  const open = openDisk(plan, host);
  isolate(host.log);
  const server = new Server(plan, host, withLimits(open.disk, plan.limits));
  const onSignal = (signal: string): void => {
    host.log.say("info", `${signal}: stopping`);
    server.stop();
  };
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, onSignal);
  try {
    await server.start();
    const resizes = new ResizeServer(server.id, open, server.threads);
    openMailbox(server.id, () => resizes.welcome());
    await onLive(server.id);
    Bun.gc(true); // what starting left behind; otherwise the collector takes 20 s of small steps
    // A page of ours that went to a swap device which we serve would never come back.
    host.log.bestEffort("memory may be swapped out", libc.mlockall);
    await server.ended();
    host.log.say("info", "stopped");
  } finally {
    await server.cleanUp();
    open.close();
  }
}

function openDisk(plan: ServePlan, { target, secret }: Host): OpenDisk {
  try {
    return target.open(plan.config, secret);
  } catch (error) {
    if (!(error instanceof SysError) || error.op !== "lock" || error.errno !== EAGAIN) throw error;
    const holder = readAllStates().find((state) => state.report["backing_file"] === error.subject);
    if (holder === undefined) throw error;
    const reason = `is served already, as device ${holder.dev_id}`;
    const hint = `ublk del -n ${holder.dev_id} ends that`;
    throw new SysError({ ...error.facts(), reason, hint });
  }
}

/** One device and the threads that serve it. */
class Server {
  id = -1;
  readonly #plan: ServePlan;
  readonly #host: Host;
  readonly #disk: OpenDisk["disk"];
  #channel: Channel = new KernelChannel();
  #charFd = -1;
  readonly #zeroFd = libc.open("/dev/zero", libc.O_RDONLY);
  #iods: { address: number; length: number }[] = [];
  #counters: Counters | undefined;
  /** Those that serve its queues, once it has started. */
  threads: Thread[] = [];
  /** The block device is there. From now on it is ended from outside of this process. */
  #live = false;
  #stopped = false;
  #broken = false;
  #ender: Promise<unknown> | undefined;

  constructor(plan: ServePlan, host: Host, disk: OpenDisk["disk"]) {
    this.#plan = plan;
    this.#host = host;
    this.#disk = disk;
  }

  async start(): Promise<void> {
    const info = await this.#add();
    this.#charFd = await openCharDevice(this.id);
    const params = encodeParams(this.#disk, info.max_io_buf_bytes, modeOf(info.flags));
    await device.setParams(this.#channel, this.id, params);
    const queues = await this.#mapQueues(info);
    const shares = dealQueues(queues, this.#threadCount(info));
    this.#refuseIfStopped();
    const counters = (this.#counters = makeCounters(this.id, shares.length));
    this.threads = shares.map((share, index) =>
      this.#host.startThread({
        ...this.#threadPlan(info, share, index),
        countersAddress: counters.addresses[index]!,
      }),
    );
    const tids = await Promise.all(this.threads.map((thread) => thread.ready));
    const serving = (queueId: number): number =>
      shares.findIndex((share) => share.queues.some((queue) => queue.queueId === queueId));
    this.#remember(queues.map((queue) => tids[serving(queue.queueId)]!));
    // A thread that ends now would leave START_DEV waiting for its queue.
    const death = Promise.race(this.threads.map((thread) => thread.ended)).then(refuseStopped);
    await Promise.race([device.startDevice(this.#channel, this.id), death]);
    await blockDeviceUsable(this.id);
    this.#live = true;
    this.#host.log.say("info", `live: ${this.#describe(info)}`);
    this.#host.log.say("debug", `threads: ${tids.join(" ")}`);
    if (this.#stopped) this.stop();
  }

  #describe(info: DevInfo): string {
    const path = this.#disk.report["backing_file"];
    const what = path === undefined ? this.#plan.target : `${this.#plan.target} ${path}`;
    return `${what}, ${this.#disk.size} bytes, ${modeOf(info.flags)}, queues ${info.nr_hw_queues}`;
  }

  #remember(tids: number[]): void {
    writeState({
      dev_id: this.id,
      target: { name: this.#plan.target, config: this.#plan.config },
      report: { name: this.#plan.target, dev_size: this.#disk.size, ...this.#disk.report },
      tids,
      affinity: this.#plan.affinity,
    });
  }

  #refuseIfStopped(): void {
    if (this.#stopped) refuseStopped();
  }

  async #add(): Promise<DevInfo> {
    const plan = this.#plan;
    const offered = await device.getFeatures(this.#channel);
    const info = await device.addDevice(this.#channel, plan.id, {
      nr_hw_queues: plan.queues,
      queue_depth: plan.depth,
      max_io_buf_bytes: plan.maxIoBytes,
      flags: choose(plan.features, offered, this.#disk).flags,
    });
    this.id = info.dev_id;
    this.#host.log.name = `ublk${this.id}`;
    this.#host.log.say("debug", `added: ${flagWords(info.flags).join(" ")}`);
    return info;
  }

  async #mapQueues(info: DevInfo): Promise<MappedQueue[]> {
    const queues: MappedQueue[] = [];
    const stride = roundUp(UBLK_MAX_QUEUE_DEPTH * IOD_SIZE, PAGE_SIZE);
    const length = roundUp(info.queue_depth * IOD_SIZE, PAGE_SIZE);
    for (let queueId = 0; queueId < info.nr_hw_queues; queueId++) {
      const offset = UBLKSRV_CMD_BUF_OFFSET + queueId * stride;
      const flags = libc.MAP_SHARED | libc.MAP_POPULATE;
      const address = libc.mmap(length, libc.PROT_READ, flags, this.#charFd, offset);
      this.#iods.push({ address, length });
      const asked = this.#plan.affinity[queueId];
      const cpus =
        asked === undefined
          ? oneCpu(
              await device.getQueueAffinity(this.#channel, this.id, queueId),
              this.id + queueId,
            )
          : device.cpuMask(asked);
      const depth = info.queue_depth;
      queues.push({ queueId, depth, iodsAddress: address, iodsLength: length, cpus });
    }
    return queues;
  }

  #threadCount(info: DevInfo): number {
    if (this.#disk.threads === 1) return 1;
    return this.#plan.threads === 0 ? info.nr_hw_queues : this.#plan.threads;
  }

  #threadPlan(
    info: DevInfo,
    share: MappedQueueShares,
    index: number,
  ): Omit<ThreadPlan, "countersAddress"> {
    const cpus = new Uint8Array(share.cpus[0]!.length);
    for (const mask of share.cpus) mask.forEach((byte, at) => (cpus[at]! |= byte));
    return {
      name: `ublk${this.id}q${index}`,
      target: this.#plan.target,
      config: this.#plan.config,
      secret: this.#host.secret,
      disk: this.#disk,
      cpus,
      shape: {
        mode: modeOf(info.flags),
        batch: (info.flags & flagBit("UBLK_F_BATCH_IO")) !== 0n,
        userCopy: (info.flags & flagBit("UBLK_F_USER_COPY")) !== 0n,
        zeroCopyMin: this.#plan.zeroCopyMin,
        maxIoBytes: info.max_io_buf_bytes,
        pollUs: this.#plan.pollUs,
        queues: share.queues,
        files: [this.#charFd, ...this.#disk.files, this.#zeroFd],
      },
    };
  }

  /** Ends the device; also from a signal handler. The threads notice, and `ended` resolves. */
  stop(): void {
    this.#stopped = true;
    if (!this.#live) return;
    // Without a helper process we are better than nobody.
    this.#ender ??= startEnder(this.id).catch(() => device.stopDevice(this.#channel, this.id));
  }

  /** Resolves when every thread has ended well. */
  async ended(): Promise<void> {
    try {
      await Promise.all(this.threads.map((thread) => thread.ended));
    } catch (error) {
      this.#broken = true;
      throw error;
    }
  }

  /** Leaves nothing behind, whatever had been reached. */
  async cleanUp(): Promise<void> {
    // Requests of a broken thread would keep STOP_DEV waiting inside of us, for ever. Exiting makes
    // the driver fail them and lets `del` have the device.
    if (this.#broken) return;
    if (!this.#live && this.id >= 0) await this.#stopThreads();
    await Promise.allSettled(this.threads.map((thread) => thread.ended));
    for (const { address, length } of this.#iods) libc.munmap(address, length);
    this.#counters?.unmap();
    if (this.#charFd >= 0) libc.close(this.#charFd);
    // A START_DEV that still waits holds the device; it goes with its ring.
    this.#channel.close();
    if (!this.#live && this.id >= 0) await deleteOwn(this.id);
    if (this.#ender !== undefined) await Promise.race([this.#ender, Bun.sleep(DELETE_WAIT_MS)]);
  }

  /** Again and again: a thread may have fetched only after the driver had looked. */
  async #stopThreads(): Promise<void> {
    const ended = Promise.allSettled(this.threads.map((thread) => thread.ended));
    const over = ended.then(() => true);
    do await device.stopDevice(this.#channel, this.id).catch(() => {});
    while (!(await Promise.race([over, Bun.sleep(STOP_AGAIN_MS).then(() => false)])));
  }
}

const STOP_AGAIN_MS = 200;
const DELETE_WAIT_MS = 5000;

function refuseStopped(): never {
  throw new SysError({ op: "start", errno: 0, reason: "was told to stop before it was ready" });
}

/**
 * Deletes the device. Whoever still has it open keeps the driver from finishing; the deletion
 * stands nevertheless, so we do not wait for them for ever.
 */
async function deleteOwn(id: number): Promise<void> {
  const channel = new KernelChannel();
  const deleted = device.deleteDevice(channel, id).catch((error: unknown) => {
    // Denied: nobody gave us the node, which is the error that is on its way already.
    if (!isGone(error) && !isDenied(error)) throw error;
  });
  await Promise.race([deleted, Bun.sleep(DELETE_WAIT_MS)]);
  channel.close();
  removeState(id);
}
