/** One device's server: its char device, the mapped iods, and the threads that serve them. */

import { PAGE_SIZE, roundUp } from "../../ffi/arena.ts";
import { EAGAIN, EINTR, EINVAL, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import {
  type DevInfo,
  IOD_SIZE,
  UBLK_MAX_QUEUE_DEPTH,
  UBLKSRV_CMD_BUF_OFFSET,
} from "../../ffi/ublk_cmd.ts";
import type { AnyTarget, Disk } from "../target/target.ts";
import { oneCpu } from "./affinity.ts";
import { type Channel, KernelChannel } from "./command.ts";
import * as device from "./device.ts";
import { flagWords, has, modeOf } from "./features.ts";
import { startEnder } from "./launch.ts";
import { inTurn } from "./in_turn.ts";
import type { AskedLimits } from "./limits.ts";
import type { Log, LogLevel } from "./log.ts";
import { blockDeviceUsable, Identity, openCharDevice, wasDeleted } from "./nodes.ts";
import { filesOf } from "./same_files.ts";
import { writeState } from "./state.ts";
import { type Counters, makeCounters } from "./stats.ts";
import {
  dealQueues,
  type MappedQueue,
  type MappedQueueShares,
  type Thread,
  type ThreadPlan,
} from "./threads.ts";
import { within } from "./within.ts";

/** How a device is served; plain data, and what the state file keeps for the next server. */
export interface Service {
  target: string;
  config: unknown;
  zeroCopyMin: number;
  /** Microseconds to look for completions before sleeping. */
  pollUs: number;
  limits: AskedLimits;
  /** CPU sets by queue id, instead of the driver's. */
  affinity: (number[] | null)[];
  /** 0: one a queue. */
  threads: number;
  logLevel: LogLevel;
  /** Somebody typed a passphrase, which is handed over beside the plan. */
  secret: boolean;
}

/** What only the process's entry can give: the targets and the Worker. */
export interface Host {
  target: AnyTarget;
  log: Log;
  secret?: string | undefined;
  startThread(plan: ThreadPlan): Thread;
}

export class Server {
  id = -1;
  /** Of the device, once it is taken. */
  identity: Identity | undefined;
  readonly channel: Channel = new KernelChannel();
  readonly #service: Service;
  readonly #host: Host;
  readonly #disk: Disk;
  #charFd = -1;
  readonly #zeroFd = libc.open("/dev/zero", libc.O_RDONLY);
  #iods: { address: number; length: number }[] = [];
  #counters: Counters | undefined;
  /** Those that serve its queues, once it is attached. */
  threads: Thread[] = [];
  /** For the log. */
  #what = "";
  #live = false;
  #stopped = false;
  #broken = false;
  /** All has ended that had to do with the device. */
  #quiet = false;
  #ender: Promise<unknown> | undefined;
  /** No helper could be started that would stop and delete it. */
  #isAlone = false;

  constructor(service: Service, host: Host, disk: Disk) {
    this.#service = service;
    this.#host = host;
    this.#disk = disk;
  }

  /** The block device is there. From now on it is ended from outside of this process. */
  get live(): boolean {
    return this.#live;
  }

  /** Somebody has deleted our device. Its id may be another one's once nobody has ours open. */
  get deleted(): boolean {
    return this.identity?.isGone ?? false;
  }

  /** Opens the char device, which one process at a time can have: EBUSY. */
  async take(info: DevInfo): Promise<void> {
    this.id = info.dev_id;
    this.identity = new Identity(this.id);
    this.#host.log.name = `ublk${this.id}`;
    this.#host.log.say("debug", `flags: ${flagWords(info.flags).join(" ")}`);
    this.#charFd = await openCharDevice(this.id);
    if (this.deleted) throw wasDeleted(this.id);
  }

  /** Resolves when each thread is about to fetch. */
  async attach(info: DevInfo): Promise<void> {
    const queues = await this.#mapQueues(info);
    const shares = dealQueues(queues, this.#threadCount(info));
    if (this.#stopped) refuseStopped();
    const counters = (this.#counters = makeCounters(this.id, shares.length));
    this.threads = shares.map((share, index) =>
      this.#host.startThread({
        ...this.#threadPlan(info, share, index),
        countersAddress: counters.addresses[index]!,
      }),
    );
    const tids = await Promise.all(this.threads.map((thread) => thread.ready));
    const serves = (thread: number, queueId: number): boolean =>
      shares[thread]!.queues.some((queue) => queue.queueId === queueId);
    this.#remember(
      queues.map(({ queueId }) => tids.filter((_, thread) => serves(thread, queueId))),
    );
    this.#host.log.say("debug", `threads: ${tids.join(" ")}`);
    this.#what = this.#describe(info);
  }

  /** `begin`: START_DEV or END_USER_RECOVERY. Resolves when there is a block device. */
  async goLive(begin: () => Promise<void>): Promise<void> {
    // A thread that ends now would leave the command waiting for its queue.
    const death = Promise.race(this.threads.map((thread) => thread.ended)).then(refuseStopped);
    let over = false;
    death.catch(() => (over = true)); // it may come while we wait for our turn, or after a failure
    await inTurn(this.id, async () => {
      if (this.#stopped) refuseStopped();
      if (this.deleted) throw wasDeleted(this.id);
      if (over) await death; // somebody stopped us, and has yet to delete
      await this.#unlessDeleted(Promise.race([begin(), death]));
    });
    await this.#unlessDeleted(Promise.race([blockDeviceUsable(this.id), death]));
    this.#live = true;
    this.#host.log.say("info", `live: ${this.#what}`);
    if (this.#stopped) this.stop();
  }

  /**
   * A program that takes no turns (`inTurn`) may delete the device meanwhile. Nobody could see it
   * then, and whoever deletes it would wait for its end for ever.
   */
  async #unlessDeleted(work: Promise<void>): Promise<void> {
    work.catch(() => {}); // it may fail when we are not waiting any more
    for (let over = false; !over;) {
      over = await within(LOOK_MS, work);
      if (this.deleted) throw wasDeleted(this.id);
    }
  }

  #describe(info: DevInfo): string {
    const path = this.#disk.report["backing_file"];
    const what = path === undefined ? this.#service.target : `${this.#service.target} ${path}`;
    return `${what}, ${this.#disk.size} bytes, ${modeOf(info.flags)}, queues ${info.nr_hw_queues}`;
  }

  #remember(tids: number[][]): void {
    const { target: name, config, affinity } = this.#service;
    const { zeroCopyMin, pollUs, threads, limits, logLevel } = this.#service;
    writeState({
      dev_id: this.id,
      target: { name, config },
      serving: { zeroCopyMin, pollUs, threads, limits, logLevel },
      report: { name, dev_size: this.#disk.size, ...this.#disk.report },
      tids,
      files: filesOf(this.#disk.files),
      affinity,
    });
  }

  async #mapQueues(info: DevInfo): Promise<MappedQueue[]> {
    const queues: MappedQueue[] = [];
    const stride = roundUp(UBLK_MAX_QUEUE_DEPTH * IOD_SIZE, PAGE_SIZE);
    const length = roundUp(info.queue_depth * IOD_SIZE, PAGE_SIZE);
    for (let queueId = 0; queueId < info.nr_hw_queues; queueId++) {
      const offset = UBLKSRV_CMD_BUF_OFFSET + queueId * stride;
      const flags = libc.MAP_SHARED | libc.MAP_POPULATE;
      const address = mapIods(this.id, () =>
        libc.mmap(length, libc.PROT_READ, flags, this.#charFd, offset),
      );
      this.#iods.push({ address, length });
      const cpus = await device.getQueueAffinity(this.channel, this.id, queueId);
      const depth = info.queue_depth;
      queues.push({ queueId, depth, iodsAddress: address, iodsLength: length, cpus });
    }
    return queues;
  }

  /**
   * The driver may have given fewer queues than were asked for. Threads share one only where each
   * tag has its own; with batches any of the queue's tags would come to any of them.
   */
  #threadCount(info: DevInfo): number {
    const asked = this.#service.threads || info.nr_hw_queues;
    if (this.#disk.threads === 1) return 1;
    return has(info.flags, "UBLK_F_PER_IO_DAEMON") ? asked : Math.min(asked, info.nr_hw_queues);
  }

  #threadPlan(
    info: DevInfo,
    share: MappedQueueShares,
    index: number,
  ): Omit<ThreadPlan, "countersAddress"> {
    const { target, config, zeroCopyMin, pollUs } = this.#service;
    return {
      name: `ublk${this.id}q${index}`,
      target,
      config,
      secret: this.#host.secret,
      recovering: "how" in this.#service,
      disk: this.#disk,
      cpus: this.#cpusFor(share, index),
      shape: {
        mode: modeOf(info.flags),
        batch: has(info.flags, "UBLK_F_BATCH_IO"),
        userCopy: has(info.flags, "UBLK_F_USER_COPY"),
        zeroCopyMin,
        maxIoBytes: info.max_io_buf_bytes,
        pollUs,
        queues: share.queues,
        files: [this.#charFd, ...this.#disk.files, this.#zeroFd],
      },
    };
  }

  /** Those that were asked for; otherwise one, and another one for each thread. */
  #cpusFor(share: MappedQueueShares, thread: number): Uint8Array {
    const asked = share.queues.flatMap(({ queueId }) => this.#service.affinity[queueId] ?? []);
    if (asked.length > 0) return device.cpuMask(asked);
    const mask = new Uint8Array(share.cpus[0]!.length);
    for (const cpus of share.cpus) cpus.forEach((byte, at) => (mask[at]! |= byte));
    return oneCpu(mask, this.id + thread);
  }

  /** Ends the device; also from a signal handler. The threads notice, and `ended` resolves. */
  stop(): void {
    this.#stopped = true;
    if (!this.#live) return;
    this.#ender ??= startEnder(this.identity!).catch(() => this.#stopAlone());
  }

  /** Without a helper process we are better than nobody, as long as the device is ours. */
  async #stopAlone(): Promise<void> {
    this.#isAlone = true;
    if (this.#quiet || this.deleted) return;
    await device.stopDevice(this.channel, this.id);
  }

  /** It has stopped its device itself, which nobody else is going to delete. */
  get isAlone(): boolean {
    return this.#isAlone;
  }

  /** So that whoever waits for our end finds nothing left. */
  async helperEnded(): Promise<void> {
    if (this.#ender !== undefined && !this.#broken) await within(ENDER_WAIT_MS, this.#ender);
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

  /**
   * Lets go of the device once its threads have ended; false when they have not. Then only our
   * exit ends them: requests of a broken thread would keep STOP_DEV waiting inside of us, for
   * ever, whereas a server that is gone makes the driver fail or keep them.
   */
  async cleanUp(): Promise<boolean> {
    if (this.#broken) return false;
    await Promise.allSettled(this.threads.map((thread) => thread.ended));
    for (const { address, length } of this.#iods) libc.munmap(address, length);
    this.#counters?.unmap();
    if (this.#charFd >= 0) libc.close(this.#charFd);
    // A START_DEV that still waits holds the device; it goes with its ring.
    this.channel.close();
    this.#quiet = true;
    return true;
  }

  /** Ends the threads of a device that never went live, or leaves that to our exit. */
  async stopThreads(): Promise<void> {
    const ended = Promise.allSettled(this.threads.map((thread) => thread.ended));
    // Again and again: a thread may have fetched only after the driver had looked.
    for (;;) {
      const stopped = await device.stopDevice(this.channel, this.id).then(() => true, isTransient);
      if (await within(STOP_AGAIN_MS, ended)) return;
      // Without its node an ordinary user's device, deleted by now, takes no command.
      if (!stopped) return this.abandon();
    }
  }

  /** Leaves the threads as they are, for our exit to end. */
  abandon(): void {
    this.#broken = true;
  }
}

/** Linux 6.12 forgets who had mapped a device only if he had also fetched. */
function mapIods(id: number, map: () => number): number {
  try {
    return map();
  } catch (error) {
    if (!(error instanceof SysError) || error.errno !== EINVAL) throw error;
    const reason = "the driver keeps the place of a server that died while it took over";
    const hint = `newer kernels (7.2) forget it: ublk del -n ${id}`;
    throw new SysError({ op: "map iods", errno: EINVAL, subject: `device ${id}`, reason, hint });
  }
}

const isTransient = (error: unknown): boolean =>
  error instanceof SysError && [EINTR, EAGAIN].includes(error.errno);

const LOOK_MS = 100;
const STOP_AGAIN_MS = 200;
/** As long as the helper may wait for its turn: less than whoever deletes waits for us. */
const ENDER_WAIT_MS = 10_000;

function refuseStopped(): never {
  throw new SysError({ op: "start", errno: 0, reason: "was told to stop before it was ready" });
}
