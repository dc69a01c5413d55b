/** Commands in batches: PREP_IO_CMDS, COMMIT_IO_CMDS, and FETCH_IO_CMDS that goes on completing. */

import { RES_ABORT, type SimDriver } from "./driver.ts";
import { checkBuffer, takeBuffer } from "./driver_tag.ts";
import { EINVAL, ENOBUFS } from "./errno.ts";
import type { Done, SimRing } from "./ring.ts";
import type { Sqe } from "./sqe.ts";
import type { Tag } from "./tags.ts";

const PREP_IO_CMDS = 0xc0107525;
const COMMIT_IO_CMDS = 0xc0107526;
const FETCH_IO_CMDS = 0xc0107527;
const HAS_BUF_ADDR = 1 << 1;
const AUTO_FALLBACK = 1 << 2;
const MULTISHOT = 1 << 1;
const CQE_F_MORE = 1 << 1;
const TAG_SIZE = 2;
const HEADER_SIZE = 8;
const TAGS_MAX = 128;
/** How often a completion brings no tags at all. */
const EMPTY = 0.1;

interface Fetch {
  queueId: number;
  group: number;
  done: Done;
  ring: SimRing;
}

/** struct ublk_batch_io, and the elements it speaks of. */
interface Header {
  queueId: number;
  flags: number;
  count: number;
  elemSize: number;
}

export class BatchSide {
  readonly #driver: SimDriver;
  readonly #fetches: Fetch[] = [];
  /** Tags with a request that no completion has carried yet, by queue. */
  readonly #fifos: Tag[][];
  #aborting: Fetch[] = [];

  constructor(driver: SimDriver) {
    this.#driver = driver;
    this.#fifos = Array.from({ length: driver.options.queues }, () => []);
  }

  /** A request has been given to a tag; the next completion tells the server. */
  assigned(tag: Tag): void {
    this.#fifos[tag.queueId]!.push(tag);
  }

  quiesce(): void {
    this.#aborting = this.#fetches.splice(0);
  }

  canQuiesce(): boolean {
    return this.#fetches.length === this.#driver.options.queues;
  }

  ready(): boolean {
    return this.#aborting.length > 0 || this.#deliverable().length > 0;
  }

  #deliverable(): Fetch[] {
    return this.#fetches.filter(({ queueId }) => this.#fifos[queueId]!.length > 0);
  }

  fire(): void {
    const { random } = this.#driver;
    if (this.#aborting.length > 0) random.take(this.#aborting).done(RES_ABORT);
    else this.#deliver(random.pick(this.#deliverable()));
  }

  /** As __ublk_batch_dispatch(): as many tags as there are and as the buffer holds. */
  #deliver(fetch: Fetch): void {
    const room = fetch.ring.provided.room(fetch.group);
    if (room === undefined) {
      this.#fetches.splice(this.#fetches.indexOf(fetch), 1);
      fetch.done(-ENOBUFS);
      return;
    }
    // Nothing could be mapped: an empty completion, and the requests come again.
    if (this.#driver.random.chance(EMPTY)) {
      fetch.done(0, room.take(0, this.#driver.random.chance(0.5)) | CQE_F_MORE);
      return;
    }
    const most = Math.min(TAGS_MAX, Math.floor(room.bytes.length / TAG_SIZE));
    const tags = this.#fifos[fetch.queueId]!.splice(0, most);
    const view = new DataView(room.bytes.buffer, room.bytes.byteOffset, room.bytes.length);
    tags.forEach((tag, at) => {
      this.#driver.deliver(tag);
      view.setUint16(at * TAG_SIZE, tag.tag, true);
    });
    const length = tags.length * TAG_SIZE;
    const cqe = fetch.done(length, room.take(length) | CQE_F_MORE);
    for (const tag of tags) tag.arrival = cqe;
  }

  /** False for commands that batch mode shares with the other. */
  submit(sqe: Sqe, done: Done, ring: SimRing): boolean {
    const header = readHeader(sqe);
    if (sqe.cmdOp === PREP_IO_CMDS) this.#prep(sqe, header, done, ring);
    else if (sqe.cmdOp === COMMIT_IO_CMDS) this.#commit(sqe, header, done);
    else if (sqe.cmdOp === FETCH_IO_CMDS) this.#fetch(sqe, header, done, ring);
    else return false;
    return true;
  }

  #fetch(sqe: Sqe, { queueId, flags, elemSize }: Header, done: Done, ring: SimRing): void {
    const isMultishot = (sqe.opFlags & MULTISHOT) !== 0 && (sqe.flags & (1 << 5)) !== 0;
    if (!isMultishot || flags !== 0 || elemSize !== TAG_SIZE) {
      done(-EINVAL);
      throw new Error(`FETCH_IO_CMDS with flags ${sqe.flags}, ${sqe.opFlags}, ${flags}`);
    }
    if (this.#driver.canceling) done(RES_ABORT);
    else this.#fetches.push({ queueId, group: sqe.bufIndex, done, ring });
  }

  #prep(sqe: Sqe, header: Header, done: Done, ring: SimRing): void {
    for (const { tag, index, address } of this.#elements(sqe, header)) {
      if (tag.state !== "unknown") throw new Error(`${tag.where}: prepared in ${tag.state}`);
      takeBuffer(this.#driver, tag, address);
      tag.ring = ring;
      tag.autoIndex = index;
      tag.autoFallback = (header.flags & AUTO_FALLBACK) !== 0;
      tag.state = "armed";
    }
    done(0);
  }

  /** Now and then it takes only some of them; the server has to bring the rest again. */
  #commit(sqe: Sqe, header: Header, done: Done): void {
    const { random } = this.#driver;
    const all = this.#elements(sqe, header);
    const taken = random.chance(0.2) ? 1 + random.int(all.length) : all.length;
    for (const { tag, index, result, address } of all.slice(0, taken)) {
      checkBuffer(tag, address);
      this.#driver.commit(tag, result);
      tag.autoIndex = index;
    }
    done(taken * header.elemSize);
  }

  #elements(sqe: Sqe, { queueId, flags, count, elemSize }: Header) {
    const hasAddress = (flags & HAS_BUF_ADDR) !== 0;
    const size = HEADER_SIZE + (hasAddress ? 8 : 0);
    if (elemSize !== size || count === 0 || count > this.#driver.options.depth) {
      throw new Error(`${count} elements of ${elemSize} bytes, with flags ${flags}`);
    }
    const bytes = this.#driver.memory.source(sqe.address, count * elemSize);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return Array.from({ length: count }, (_, number) => {
      const at = number * elemSize;
      return {
        tag: this.#driver.tag(queueId, view.getUint16(at, true)),
        index: view.getUint16(at + 2, true),
        result: view.getInt32(at + 4, true),
        address: hasAddress ? Number(view.getBigUint64(at + HEADER_SIZE, true)) : 0,
      };
    });
  }
}

function readHeader({ command }: Sqe): Header {
  return {
    queueId: command.getUint16(0, true),
    flags: command.getUint16(2, true),
    count: command.getUint16(4, true),
    elemSize: command.getUint8(6),
  };
}
