/** Commands for one tag: FETCH_REQ, COMMIT_AND_FETCH_REQ, NEED_GET_DATA, (UN)REGISTER_IO_BUF. */

import type { SimDriver } from "./driver.ts";
import { EINVAL, ENOMEM } from "./errno.ts";
import type { Done, SimRing } from "./ring.ts";
import type { Sqe } from "./sqe.ts";
import type { Tag } from "./tags.ts";

const FETCH_REQ = 0xc0107520;
const COMMIT_AND_FETCH_REQ = 0xc0107521;
const NEED_GET_DATA = 0xc0107522;
const REGISTER_IO_BUF = 0xc0107523;
const UNREGISTER_IO_BUF = 0xc0107524;

export function tagCommand(driver: SimDriver, sqe: Sqe, done: Done, ring: SimRing): void {
  const tag = driver.tag(sqe.command.getUint16(0, true), sqe.command.getUint16(2, true));
  const result = sqe.command.getInt32(4, true);
  const address = Number(sqe.command.getBigUint64(8, true));
  if (sqe.cmdOp === REGISTER_IO_BUF) {
    done(driver.register(tag, address, ring) ? 0 : -ENOMEM);
  } else if (sqe.cmdOp === UNREGISTER_IO_BUF) {
    if (!ring.buffers.remove(address)) throw new Error(`buffer ${address} is not registered`);
    done(0);
  } else if (driver.options.batch) {
    throw new Error(`${tag.where}: command 0x${sqe.cmdOp.toString(16)} in batch mode`);
  } else if (sqe.cmdOp === FETCH_REQ) {
    fetch(driver, tag, sqe, address, done, ring);
  } else if (sqe.cmdOp === COMMIT_AND_FETCH_REQ) {
    checkBuffer(tag, address);
    // First what the request was registered by, then what the next one is to be registered by.
    driver.commit(tag, result);
    arm(driver, tag, sqe, done, ring);
  } else if (sqe.cmdOp === NEED_GET_DATA) {
    getData(driver, tag, address, done);
  } else {
    throw new Error(`${tag.where}: command 0x${sqe.cmdOp.toString(16)} is unknown`);
  }
}

function fetch(
  driver: SimDriver,
  tag: Tag,
  sqe: Sqe,
  address: number,
  done: Done,
  ring: SimRing,
): void {
  if (tag.state !== "unknown") throw new Error(`${tag.where}: fetched in state ${tag.state}`);
  takeBuffer(driver, tag, address);
  tag.state = "armed";
  arm(driver, tag, sqe, done, ring);
}

/** In copy mode a tag has one buffer for life; the server fills it while it has the tag. */
export function takeBuffer(driver: SimDriver, tag: Tag, address: number): void {
  const { mode, maxIoBytes } = driver.options;
  const copies = mode === "copy" || mode === "get-data";
  if (copies !== (address !== 0)) throw new Error(`${tag.where}: fetched with buffer ${address}`);
  tag.address = address;
  if (!copies) return;
  driver.memory.guard(tag.where, address, maxIoBytes, () =>
    tag.state === "server" ? undefined : `the tag is ${tag.state}`,
  );
}

export function checkBuffer(tag: Tag, address: number): void {
  if (address !== tag.address) throw new Error(`${tag.where}: committed with another buffer`);
}

/** struct ublk_auto_buf_reg travels in the SQE's own address. */
function arm(driver: SimDriver, tag: Tag, sqe: Sqe, done: Done, ring: SimRing): void {
  tag.ring = ring;
  tag.done = done;
  if (driver.options.mode !== "auto-zero-copy") {
    if (sqe.address !== 0) throw new Error(`${tag.where}: an address that nobody asked for`);
    return;
  }
  if (sqe.address > 0x1ffff) done(-EINVAL);
  tag.autoIndex = sqe.address & 0xffff;
  tag.autoFallback = (sqe.address & 0x10000) !== 0;
}

/** The second half of a WRITE's arrival: the bytes come now. */
function getData(driver: SimDriver, tag: Tag, address: number, done: Done): void {
  if (tag.state !== "asking") throw new Error(`${tag.where}: asked for data in ${tag.state}`);
  if (!tag.arrival!.reaped) throw new Error(`${tag.where}: asked before it was told to`);
  checkBuffer(tag, address);
  driver.deliver(tag);
  tag.arrival = done(0);
}
