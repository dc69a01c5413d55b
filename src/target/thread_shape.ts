/** How a server thread is built: what control decides and queue assembles; plain data. */

/** How a device moves its data. */
export const MODES = ["copy", "get-data", "user-copy", "zero-copy", "auto-zero-copy"] as const;
export type Mode = (typeof MODES)[number];

/** The part of a queue that one thread serves: tags `firstTag`, `firstTag + tagStep`, … */
export interface QueueShare {
  queueId: number;
  depth: number;
  firstTag: number;
  tagStep: number;
  /** Where this process has the queue's iods mapped. */
  iodsAddress: number;
  iodsLength: number;
}

export interface ThreadShape {
  mode: Mode;
  batch: boolean;
  userCopy: boolean;
  /** Bytes from which on a request is worth a registration of its own. */
  zeroCopyMin: number;
  maxIoBytes: number;
  /** Microseconds to look for completions before sleeping. */
  pollUs: number;
  queues: QueueShare[];
  /** Registered files: the char device, those of the disk, /dev/zero. */
  files: number[];
}
