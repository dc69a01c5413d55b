/** An image with all that it stands on: its data file, its backing file, that one's, and so on. */

import { realpathSync } from "node:fs";
import { dirname, isAbsolute } from "node:path";
import { ENOENT, type SyncFile, SysError } from "../../src/target/file_io.ts";
import { looksRaw, otherFormat } from "./foreign.ts";
import { CRYPT_AES, SECTOR } from "./format.ts";
import {
  type Header,
  ImageError,
  isQcow2,
  l1EntriesNeeded,
  readHeader,
  readStart,
} from "./header.ts";
import { printable } from "./names.ts";

/** One image of a chain, as its files are open. */
export interface ChainImage {
  path: string;
  file: SyncFile;
  /** Position among the files of the chain. */
  index: number;
  /** undefined: a raw image. */
  header: Header | undefined;
  dataFile: SyncFile | undefined;
  dataIndex: number;
  backing: ChainImage | undefined;
  /** Where the backing file is; undefined also when its name leads nowhere. */
  backingPath: string | undefined;
  /** Why there is no `backing`, of a chain that need not be whole. */
  backingError: SysError | undefined;
}

/** Opens one file of a chain, in the order in which they are asked for. */
export type OpenFile = (path: string, readOnly: boolean) => SyncFile;

/**
 * Of the FILES_MAX that a key of the table cache can tell apart. The others are for what a thread
 * has beside them: the char device, the data once more for direct IO, and zeros.
 */
const CHAIN_MAX = 60;

/** Of all images of a chain; they are in memory as long as it is open. One has 32 MiB at most. */
const L1_BYTES_MAX = 128 << 20;

/** Opens `path` and all behind it. Throws SysError. */
export function openChain(path: string, readOnly: boolean, open: OpenFile): ChainImage {
  return new ChainOpener(open, true).image(path, "qcow2", readOnly);
}

/** To be looked at only: as much of the chain as can be opened. Throws for `path` itself. */
export function openPartOfChain(path: string, open: OpenFile): ChainImage {
  return new ChainOpener(open, false).image(path, undefined, true);
}

class ChainOpener {
  readonly #open: OpenFile;
  readonly #whole: boolean;
  readonly #paths: string[] = [];
  #l1Bytes = 0;

  constructor(open: OpenFile, whole: boolean) {
    this.#open = open;
    this.#whole = whole;
  }

  image(path: string, format: string | undefined, readOnly: boolean): ChainImage {
    const [file, index] = this.#file(path, readOnly);
    const bytes = readStart(file);
    const raw = format === "raw" || (format === undefined && looksRaw(bytes));
    if (!raw && !isQcow2(bytes)) throw otherFormat(path, bytes, this.#paths.length === 1);
    const image: ChainImage = {
      path,
      file,
      index,
      header: raw ? undefined : readHeader(bytes, path, file.size(), !this.#whole),
      dataFile: undefined,
      dataIndex: index,
      backing: undefined,
      backingPath: undefined,
      backingError: undefined,
    };
    const header = image.header;
    if (header === undefined) return image;
    this.#countL1(image, header);
    if (this.#whole) refuseToServe(image, header);
    // To be looked at, what an image names as its data need not be there, nor be opened.
    if (this.#whole && header.externalData) this.#dataFile(image, header, readOnly);
    if (header.backingName !== undefined) this.#backing(image, header, header.backingName);
    return image;
  }

  #dataFile(image: ChainImage, header: Header, readOnly: boolean): void {
    const path = beside(image.path, header.dataFileName!, "external data file");
    [image.dataFile, image.dataIndex] = standing(image.path, "data file", path, () =>
      this.#file(path, readOnly),
    );
  }

  #backing(image: ChainImage, header: Header, name: string): void {
    try {
      const backing = (image.backingPath = beside(image.path, name, "backing file"));
      const format = backingFormat(image.path, header);
      image.backing = standing(image.path, "backing file", backing, () =>
        this.image(backing, format, true),
      );
    } catch (error) {
      if (this.#whole || !(error instanceof SysError)) throw error;
      image.backingError = error;
    }
  }

  #countL1(image: ChainImage, header: Header): void {
    this.#l1Bytes += l1Bytes(image, header);
    if (this.#l1Bytes <= L1_BYTES_MAX || !this.#whole) return;
    const most = `${L1_BYTES_MAX >> 20} MiB`;
    throw new ImageError(this.#paths[0]!, `the L1 tables of its chain take more than ${most}`);
  }

  #file(path: string, readOnly: boolean): [file: SyncFile, index: number] {
    const real = realPath(path);
    if (this.#paths.includes(real)) {
      throw new ImageError(path, "is its own backing file: the chain comes back to it");
    }
    if (this.#paths.length === CHAIN_MAX) {
      throw new ImageError(this.#paths[0]!, `its chain has more than ${CHAIN_MAX} files`);
    }
    this.#paths.push(real);
    return [this.#open(path, readOnly), this.#paths.length - 1];
  }
}

/** What can be looked at, and checked, and is no disk. */
function refuseToServe({ path, index }: ChainImage, header: Header): void {
  if (header.size === 0 && index === 0) {
    throw new ImageError(path, "size is 0: there is no disk in it", "qemu-img resize gives one");
  }
  if (header.externalData && header.dataFileName === undefined) {
    throw new ImageError(path, "needs an external data file and does not name it");
  }
  if (header.cryptMethod === CRYPT_AES) {
    const hint = "qemu-img convert makes a plain image of it";
    const reason = "crypt_method is AES (legacy): it protects too little to be served";
    throw new ImageError(path, reason, hint);
  }
}

/** How qemu-img is told that it is elsewhere now. */
const MOVED = { "backing file": "rebase -u", "data file": "amend -o data_file=" };

/** What goes wrong with `path` itself is told with who wants it: nobody typed that name. */
function standing<T>(image: string, what: keyof typeof MOVED, path: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    if (!(error instanceof SysError) || error.subject !== path) throw error;
    const role = `it is the ${what} of ${image}`;
    const way = error.errno === ENOENT ? `qemu-img ${MOVED[what]} names another` : error.hint;
    const hint = way === undefined ? role : `${role}; ${way}`;
    throw new SysError({ ...error.facts(), hint });
  }
}

/** Two names of one file are the same here; one that is not there is told about by its opening. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

const protocolOf = (name: string): string | undefined => /^[^/]*?:/.exec(name)?.[0];

/** Names are relative to the image that has them. Those with a protocol are none of ours. */
function beside(image: string, name: string, what: string): string {
  const path = placeOf(image, name);
  if (path !== undefined) return path;
  const reason = `its ${what} is '${printable(name)}': only plain file names are followed`;
  throw new ImageError(image, reason, `'${printable(protocolOf(name)!)}' is for qemu`);
}

/** The file that the image at `image` names; undefined where it is no plain file name. */
export function placeOf(image: string, name: string): string | undefined {
  const protocol = protocolOf(name);
  if (protocol === "file:") return placeOf(image, name.slice(protocol.length));
  if (protocol !== undefined) return undefined;
  // Not normalised: what ".." behind a symlink means, only the file system knows.
  return isAbsolute(name) ? name : `${dirname(image)}/${name}`;
}

function backingFormat(image: string, header: Header): string | undefined {
  const format = header.backingFormat;
  if (format === undefined || format === "raw" || format === "qcow2") return format;
  throw new ImageError(image, `its backing file is '${printable(format)}', not raw or qcow2`);
}

/** What memory has of an L1 table: nobody asks a backing file for what is behind its end. */
export function l1Bytes(image: ChainImage, header: Header): number {
  return 8 * (image.index === 0 ? header.l1Size : l1EntriesNeeded(header));
}

/** Bytes of an image's disk, in whole sectors: the rest of a raw file's last one reads zeros. */
export function diskSize(image: ChainImage): number {
  const size = image.header?.size ?? image.file.size();
  return Math.ceil(size / SECTOR) * SECTOR;
}
