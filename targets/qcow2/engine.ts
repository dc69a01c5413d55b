/** An open image in a Worker: what it keeps in memory, and the way of each request. */

import { EIO, EROFS } from "../../src/target/file_io.ts";
import { bytesAt, viewAt } from "../../src/target/memory.ts";
import {
  type Coroutine,
  DATA_FILE,
  type Handlers,
  type Io,
  OP_DISCARD,
  OP_FLUSH,
  OP_READ,
  OP_WRITE,
  OP_WRITE_ZEROES,
  QUEUED,
  type QueueContext,
  SLOW,
  UNSUPPORTED,
} from "../../src/target/target.ts";
import { type ChainImage, diskSize, l1Bytes } from "./chain.ts";
import { FastPath } from "./fast.ts";
import { Gate } from "./locks.ts";
import type { Header } from "./header.ts";
import { Mapping } from "./mapping.ts";
import { Overlaps } from "./overlaps.ts";
import { type Layer, Reader } from "./read.ts";
import { FILES_MAX, SLICE, TableCache } from "./table_cache.ts";
import { Workspaces } from "./workspace.ts";
import { Writer } from "./writer.ts";
import type { DiskCipher } from "./xts.ts";

export interface EngineOptions {
  readOnly: boolean;
  /** Bytes for tables. */
  cacheSize: number;
  /** The registered file that is the data file once more, for direct IO; undefined for none. */
  directFile?: number | undefined;
  /** Of the image's own data, when it is encrypted. */
  cipher?: DiskCipher | undefined;
}

/** How much memory decompression may take at once, and how many may do it. */
const WORKSPACE_BYTES = 24 << 20;
const WORKSPACES_MAX = 8;

export class Engine implements Handlers {
  readonly #context: QueueContext;
  readonly #cache: TableCache;
  readonly #ends = new Float64Array(FILES_MAX);
  readonly #fast: FastPath;
  readonly #reader: Reader;
  readonly #top: Layer;
  readonly #writer: Writer | undefined;
  /** Where data goes by direct IO, and parts of pages do not. */
  readonly #overlaps: Overlaps | undefined;

  constructor(chain: ChainImage, options: EngineOptions, context: QueueContext) {
    this.#context = context;
    const layers = layersOf(chain);
    const cacheSize = Math.max(options.cacheSize, 4 * layers * SLICE);
    const address = context.allocate(cacheSize);
    const view = viewAt(address, cacheSize);
    this.#cache = new TableCache(address, view, context.runnable);
    this.#top = { ...this.#layer(chain), cipher: options.cipher };
    const clusterSize = largestCluster(chain);
    const count = Math.min(WORKSPACES_MAX, Math.floor(WORKSPACE_BYTES / (3 * clusterSize)));
    const workspaces = new Workspaces(context, count, 3 * clusterSize);
    const loadersMax = Math.floor(this.#cache.slots / (2 * layers));
    const loaders = new Gate(context.runnable, loadersMax);
    this.#reader = new Reader(this.#cache, workspaces, clusterSize, this.#ends, loaders);
    const mapping = this.#top.mapping!;
    const hasBacking = this.#top.backing !== undefined;
    if (options.directFile !== undefined) mapping.directFile = options.directFile;
    if (options.directFile !== undefined && !options.readOnly) {
      this.#keepUncached(chain);
      this.#overlaps = new Overlaps(context.runnable);
    }
    this.#fast = new FastPath(
      options.cipher !== undefined,
      mapping,
      this.#cache,
      this.#ends,
      hasBacking,
    );
    if (!options.readOnly) {
      const parts = { context, cache: this.#cache, fast: this.#fast, reader: this.#reader };
      this.#writer = new Writer(chain, this.#top, { ...parts, ends: this.#ends });
    }
  }

  /**
   * As long as a file has any page in the page cache, the kernel looks at each direct write
   * whether it has to throw some out: a fifth of what a rewrite costs. What we have read of the
   * tables is in our own cache, so it need not stay in the kernel's; nor what was there before us,
   * such as all of an image that has just been downloaded.
   */
  #keepUncached(chain: ChainImage): void {
    const file = chain.dataFile ?? chain.file;
    file.sync(); // only what is clean can be dropped, and much of it had better be now
    file.dropCached();
    if (chain.dataFile === undefined) this.#cache.onPages = () => file.dropCached();
  }

  #layer(image: ChainImage): Layer {
    const file = DATA_FILE + image.index;
    this.#ends[file] = image.file.size();
    const { header } = image;
    const backing = image.backing === undefined ? undefined : this.#layer(image.backing);
    const common = { size: diskSize(image), file, backing, cipher: undefined };
    if (header === undefined) return { ...common, mapping: undefined, compressionType: 0 };
    const dataFile = DATA_FILE + image.dataIndex;
    if (image.dataFile !== undefined) this.#ends[dataFile] = image.dataFile.size();
    const forbidden = Float64Array.from([
      ...[0, header.clusterSize, header.l1Offset, header.l1Offset + header.l1Size * 8],
      ...[header.refcountTableOffset],
      ...[header.refcountTableOffset + header.refcountTableClusters * header.clusterSize],
    ]);
    const geometry = { ...header, zeroFlags: header.version >= 3 };
    const l1 = this.#loadL1(image, header);
    const mapping = new Mapping(geometry, file, dataFile, l1, this.#cache, forbidden);
    mapping.dataEnd = Math.ceil(this.#ends[file]! / header.clusterSize) * header.clusterSize;
    return { ...common, mapping, compressionType: header.compressionType };
  }

  #loadL1(image: ChainImage, header: Header): DataView {
    const length = l1Bytes(image, header);
    if (length === 0) return new DataView(new ArrayBuffer(0)); // of a disk without a byte
    const address = this.#context.allocate(length);
    // Mapped memory is whole pages, and a view of words needs whole words.
    image.file.read(bytesAt(address, length), header.l1Offset);
    return viewAt(address, length);
  }

  queueIo(io: Io): number {
    this.#writer?.arrived(io);
    if (this.#overlaps?.arrived(io) === true) return SLOW;
    return this.#fast.queueIo(io);
  }

  ioDone(io: Io): void {
    this.#writer?.done(io);
    this.#overlaps?.done(io);
  }

  *runIo(io: Io): Coroutine {
    if (this.#overlaps !== undefined) yield* this.#overlaps.wait(io);
    const work = this.#workOf(io);
    const failure = typeof work === "number" ? work : yield* work;
    return failure < 0 ? failure : QUEUED;
  }

  #workOf(io: Io): Coroutine | number {
    if (io.op === OP_READ) return this.#reader.read(io, this.#top, io.offset, io.length, 0, 0);
    const writer = this.#writer;
    // Before its offset is looked at: that of a FLUSH is all ones (blk_rq_init in block/blk-mq.c).
    if (io.op === OP_FLUSH) return writer === undefined ? 0 : writer.flush(io);
    if (io.offset + io.length > this.#top.size) return -EIO; // of a disk that has just shrunk
    if (writer === undefined) return -EROFS;
    if (io.op === OP_WRITE) return writer.write(io);
    if (io.op === OP_DISCARD) return writer.discard(io);
    return io.op === OP_WRITE_ZEROES ? writer.writeZeroes(io) : UNSUPPORTED;
  }

  *resize(io: Io, size: number): Coroutine {
    if (this.#writer === undefined) return -EROFS;
    this.#writer.arrived(io);
    return yield* this.#writer.resize(io, size);
  }

  close(): void {
    this.#writer?.close();
  }
}

function layersOf(chain: ChainImage): number {
  let count = 0;
  for (let image: ChainImage | undefined = chain; image !== undefined; image = image.backing) {
    count++;
  }
  return count;
}

function largestCluster(chain: ChainImage): number {
  let largest = SLICE;
  for (let image: ChainImage | undefined = chain; image !== undefined; image = image.backing) {
    largest = Math.max(largest, image.header?.clusterSize ?? 0);
  }
  return largest;
}
