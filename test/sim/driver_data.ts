/** User copy: the bytes of requests, read and written at their place in the char device. */

import type { SimDriver } from "./driver.ts";
import { EINVAL } from "./errno.ts";
import type { Done } from "./ring.ts";
import type { Sqe } from "./sqe.ts";
import { hasData, READ, WRITE } from "./tags.ts";

const IORING_OP_READ = 22;
const IORING_OP_WRITE = 23;
const BUF_OFFSET = 0x80000000;
const TAG_UNIT = 2 ** 25;
const QUEUE_UNIT = 2 ** 41;

export function copyData(driver: SimDriver, sqe: Sqe, done: Done): void {
  const position = sqe.offset - BUF_OFFSET;
  const reads = sqe.opcode === IORING_OP_READ;
  if (!driver.options.userCopy || position < 0 || (!reads && sqe.opcode !== IORING_OP_WRITE)) {
    done(-EINVAL);
    throw new Error(`the char device was sent opcode ${sqe.opcode} at ${sqe.offset}`);
  }
  const queueId = Math.floor(position / QUEUE_UNIT);
  const tag = driver.tag(queueId, Math.floor((position % QUEUE_UNIT) / TAG_UNIT));
  const at = position % TAG_UNIT;
  if (tag.state !== "server" || !hasData(tag.request!)) {
    throw new Error(`${tag.where}: bytes copied while the tag is ${tag.state}`);
  }
  // A WRITE's bytes are read from the device, a READ's are written to it.
  if (tag.request!.op !== (reads ? WRITE : READ)) throw new Error(`${tag.where}: the wrong way`);
  const bytes = tag.left.subarray(at, at + sqe.length);
  if (bytes.length < sqe.length) throw new Error(`${tag.where}: bytes beyond the request`);
  if (reads) driver.memory.destination(sqe.address, sqe.length).set(bytes);
  else bytes.set(driver.memory.source(sqe.address, sqe.length));
  done(sqe.length);
}
