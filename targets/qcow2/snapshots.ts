/** The snapshot table, to be looked at: we make no snapshot and change none. */

import type { SyncFile } from "../../src/target/file_io.ts";
import * as q from "./format.ts";
import { type Header, ImageError } from "./header.ts";
import { getOffset } from "./mapping.ts";

export interface Snapshot {
  id: string;
  name: string;
  l1Offset: number;
  l1Size: number;
  /** Bytes of the virtual machine's state, and seconds since 1970. */
  stateSize: number;
  seconds: number;
  diskSize: number | undefined;
  /** How long the virtual machine had run. */
  clockNs: number;
}

export interface SnapshotTable {
  snapshots: Snapshot[];
  /** Bytes of the whole table. */
  length: number;
}

const ENTRY = 40;
const EXTRA_MAX = 1024;

/** For who writes. Throws ImageError also for what makes no table of its own unreadable. */
export function readSnapshots(image: SyncFile, header: Header): SnapshotTable {
  const table = lookAtSnapshots(image, header);
  const index = table.snapshots.findIndex(hasHugeTable);
  if (index < 0) return table;
  throw new ImageError(image.path, hugeTable(table.snapshots[index]!, index));
}

/** What no table of a disk can have. */
export const hasHugeTable = ({ l1Size }: Snapshot): boolean => l1Size * 8 > q.L1_BYTES_MAX;

export const hugeTable = ({ l1Size }: Snapshot, index: number): string =>
  `snapshot ${index + 1} has an L1 table of ${l1Size} entries; 32 MiB is the most`;

/** Throws ImageError for a table that cannot be read. */
export function lookAtSnapshots(image: SyncFile, header: Header): SnapshotTable {
  if (header.snapshotCount === 0) return { snapshots: [], length: 0 };
  const begin = header.snapshotsOffset;
  const bytes = new Uint8Array(Math.min(q.SNAPSHOT_TABLE_BYTES_MAX, image.size() - begin));
  const view = new DataView(bytes.buffer, 0, image.read(bytes, begin));
  const snapshots: Snapshot[] = [];
  let at = 0;
  for (let index = 0; index < header.snapshotCount; index++) {
    const refuse = (what: string): never => {
      throw new ImageError(image.path, `snapshot ${index + 1} of the snapshot table ${what}`);
    };
    if (at + ENTRY > view.byteLength) refuse("lies beyond the end of the file or of the limit");
    const extra = view.getUint32(at + 36);
    const idLength = view.getUint16(at + 12);
    const nameLength = view.getUint16(at + 14);
    if (extra > EXTRA_MAX) refuse(`has ${extra} bytes of extra data; ${EXTRA_MAX} is the most`);
    const length = ENTRY + extra + idLength + nameLength;
    if (at + length > view.byteLength) refuse("lies beyond the end of the file or of the limit");
    snapshots.push(readEntry(view, at, extra, idLength, nameLength));
    at += Math.ceil(length / 8) * 8;
  }
  return { snapshots, length: at };
}

function readEntry(
  view: DataView,
  at: number,
  extra: number,
  idLength: number,
  nameLength: number,
): Snapshot {
  const text = (from: number, length: number): string =>
    new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + from, length));
  const id = at + ENTRY + extra;
  const u64 = (from: number): number => getOffset(view, from);
  return {
    id: text(id, idLength),
    name: text(id + idLength, nameLength),
    l1Offset: u64(at),
    l1Size: view.getUint32(at + 8),
    stateSize: extra >= 8 ? u64(at + 40) : view.getUint32(at + 32),
    seconds: view.getUint32(at + 16),
    clockNs: u64(at + 24),
    diskSize: extra >= 16 ? u64(at + 48) : undefined,
  };
}
