/** An image of 1 TiB with every table it can have, made by us: qemu takes minutes to make one. */

import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import * as q from "../../../targets/qcow2/format.ts";

export const TIB = 2 ** 40;
const CLUSTER = 1 << 16;
const L2_ENTRIES = CLUSTER / 8;
const BLOCK_ENTRIES = CLUSTER / 2;
const DATA_CLUSTERS = TIB / CLUSTER;
const L2_TABLES = DATA_CLUSTERS / L2_ENTRIES;
const BLOCKS = DATA_CLUSTERS / BLOCK_ENTRIES + 1;
/** In this order: header, refcount table, its blocks, L1 table, L2 tables, data. */
const TABLE_AT = CLUSTER;
const BLOCKS_AT = 2 * CLUSTER;
const L1_AT = BLOCKS_AT + BLOCKS * CLUSTER;
const L2_AT = L1_AT + CLUSTER;
const DATA_AT = L2_AT + L2_TABLES * CLUSTER;
const TOTAL = DATA_AT / CLUSTER + DATA_CLUSTERS;

/** Where the host has the guest's byte 0; the rest follows in order. Data are a hole. */
export function makeHugeImage(path: string): number {
  const fd = openSync(path, "w");
  ftruncateSync(fd, TOTAL * CLUSTER);
  writeSync(fd, header(), 0, q.V3_HEADER_LENGTH, 0);
  writeSync(fd, pointers(BLOCKS, BLOCKS_AT, 0), 0, CLUSTER, TABLE_AT);
  const counts = new Uint8Array(CLUSTER).map((_, at) => at & 1);
  for (let block = 0; block < BLOCKS; block++) {
    const used = Math.min(BLOCK_ENTRIES, TOTAL - block * BLOCK_ENTRIES);
    writeSync(fd, counts, 0, used * 2, BLOCKS_AT + block * CLUSTER);
  }
  writeSync(fd, pointers(L2_TABLES, L2_AT, q.HIGH_COPIED), 0, CLUSTER, L1_AT);
  for (let table = 0; table < L2_TABLES; table++) {
    const data = DATA_AT + table * L2_ENTRIES * CLUSTER;
    const at = L2_AT + table * CLUSTER;
    writeSync(fd, pointers(L2_ENTRIES, data, q.HIGH_COPIED), 0, CLUSTER, at);
  }
  closeSync(fd);
  return DATA_AT;
}

function header(): Uint8Array {
  const bytes = new Uint8Array(q.V3_HEADER_LENGTH);
  const view = new DataView(bytes.buffer);
  const words: [at: number, value: number][] = [
    [0, q.MAGIC],
    [4, 3],
    [20, 16],
    [24, TIB / q.TWO_32],
    [36, L2_TABLES],
    [44, L1_AT],
    [q.REFCOUNT_TABLE_OFFSET_AT + 4, TABLE_AT],
    [56, 1],
    [96, 4],
    [100, q.V3_HEADER_LENGTH],
  ];
  for (const [at, value] of words) view.setUint32(at, value);
  return bytes;
}

/** A table whose entries point to neighbouring clusters. */
function pointers(count: number, first: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(CLUSTER);
  const view = new DataView(bytes.buffer);
  for (let index = 0; index < count; index++) {
    const offset = first + index * CLUSTER;
    view.setUint32(index * 8, (Math.floor(offset / q.TWO_32) | flags) >>> 0);
    view.setUint32(index * 8 + 4, offset % q.TWO_32);
  }
  return bytes;
}
