// hot
/** The io_uring UAPI as the queue uses it (include/uapi/linux/io_uring.h), and the ring seam. */

export const IORING_OP_FSYNC = 3;
export const IORING_OP_READ_FIXED = 4;
export const IORING_OP_WRITE_FIXED = 5;
export const IORING_OP_TIMEOUT = 11;
export const IORING_OP_FALLOCATE = 17;
export const IORING_OP_READ = 22;
export const IORING_OP_WRITE = 23;
const IORING_OP_MSG_RING = 40;
export const IORING_OP_URING_CMD = 46;

const IOSQE_FIXED_FILE = 1 << 0;
export const IOSQE_IO_LINK = 1 << 2;
const IOSQE_BUFFER_SELECT = 1 << 5;
export const IOSQE_CQE_SKIP_SUCCESS = 1 << 6;
/** In the op flags of IORING_OP_URING_CMD. */
const IORING_URING_CMD_MULTISHOT = 1 << 1;
/** In a CQE's flags: more completions will come; the buffer has room left; whose buffer it is. */
export const IORING_CQE_F_MORE = 1 << 1;
export const IORING_CQE_F_BUF_MORE = 1 << 4;
export const IORING_CQE_BUFFER_SHIFT = 16;
export const IORING_FSYNC_DATASYNC = 1 << 0;
/** include/uapi/linux/fs.h */
export const RWF_DSYNC = 0x2;

/** An SQE is 16 words; with SQE128 the command area goes on for another 16. */
export const SQE_WORDS = 16;
const SQE_OPCODE_FLAGS = 0;
const SQE_FD = 1;
export const SQE_OFF = 2;
export const SQE_ADDR = 4;
const SQE_LEN = 6;
const SQE_OP_FLAGS = 7;
const SQE_USER_DATA = 8;
const SQE_BUF_INDEX = 10;
const SQE_FILE_INDEX = 11;
/** The command area of IORING_OP_URING_CMD. */
export const SQE_CMD = 12;

export const CQE_WORDS = 4;
export const CQE_RES = 2;
export const CQE_FLAGS = 3;

/**
 * The seam below the queue: the kernel's ring, or a simulated one.
 *
 * `user_data` is two words: the low one says whose completion it is, the high one what was
 * asked; `src/queue/user_data.ts` owns their meaning.
 */
export interface Ring {
  /** All SQEs, `SQE_WORDS` each. */
  readonly sqes: Int32Array;
  /**
   * The first word of a fresh SQE in `sqes`. It leaves with the next submission, which happens
   * here when the queue is full. -1 when the kernel takes none.
   */
  nextSqe(): number;
  /** As `nextSqe`, but never takes the last `reserved` places: they are kept for commits. */
  nextSqeKeeping(reserved: number): number;
  /** Whether `count` SQEs can follow each other in one submission; submits to make it so. */
  roomFor(count: number, reserved: number): boolean;
  /** Submits without waiting; answers how much the kernel did not take yet, or -errno. */
  submit(): number;
  /** Submits what is queued and sleeps until a completion is there. 0 or -errno. */
  submitAndWait(): number;
  /** The last submission left nothing behind: the kernel has all that was queued before it. */
  readonly drained: boolean;
  /** How many completions are ready; the accessors below speak of the first of them. */
  cqReady(): number;
  cqSlot(): number;
  cqMeta(): number;
  cqRes(): number;
  cqFlags(): number;
  cqAdvance(): void;
}

const TWO_52 = 2 ** 52;
/** File offsets are below, because `lowHalf` and `highHalf` are right below. */
export const FILE_END_MAX = TWO_52;
const double = new Float64Array(1);
const halves = new Int32Array(double.buffer);

/**
 * The low 32 bits of a Number of bytes below 2^52: of 2^52 + value, the low bits of its
 * representation are the value. One addition, where a conversion of a Number above 2^31 is a call
 * into the runtime.
 */
export function lowHalf(value: number): number {
  double[0] = value + TWO_52;
  return halves[0]!;
}

/** The bits above those of `lowHalf`. */
export function highHalf(value: number): number {
  double[0] = value + TWO_52;
  return halves[1]! & 0xfffff;
}

/** Fills an SQE. `fileOffset` and `address` are Numbers of bytes below 2^52. */
export function prepRw(
  sqes: Int32Array,
  sqe: number,
  opcode: number,
  file: number,
  fileOffset: number,
  address: number,
  length: number,
  opFlags: number,
  bufferIndex: number,
  sqeFlags: number,
): void {
  sqes[sqe + SQE_OFF] = lowHalf(fileOffset);
  sqes[sqe + SQE_OFF + 1] = highHalf(fileOffset);
  sqes[sqe + SQE_ADDR] = lowHalf(address);
  sqes[sqe + SQE_ADDR + 1] = highHalf(address);
  prepRwWords(sqes, sqe, opcode, file, length, opFlags, bufferIndex, sqeFlags);
}

/** As `prepRw`, but for the file offset and the address, which the caller fills in as halves. */
export function prepRwWords(
  sqes: Int32Array,
  sqe: number,
  opcode: number,
  file: number,
  length: number,
  opFlags: number,
  bufferIndex: number,
  sqeFlags: number,
): void {
  sqes[sqe + SQE_OPCODE_FLAGS] = opcode | ((IOSQE_FIXED_FILE | sqeFlags) << 8);
  sqes[sqe + SQE_FD] = file;
  sqes[sqe + SQE_LEN] = length;
  sqes[sqe + SQE_OP_FLAGS] = opFlags;
  sqes[sqe + SQE_BUF_INDEX] = bufferIndex;
  sqes[sqe + SQE_FILE_INDEX] = 0;
  // What a command left here would be attributes of a read (IORING_RW_ATTR_FLAG_PI, Linux 6.13).
  sqes[sqe + SQE_CMD] = 0;
  sqes[sqe + SQE_CMD + 1] = 0;
  sqes[sqe + SQE_CMD + 2] = 0;
  sqes[sqe + SQE_CMD + 3] = 0;
}

/**
 * IORING_OP_URING_CMD on a registered file; the caller fills the command area. The address and
 * `length` are the SQE's own, which only some commands look at.
 */
export function prepCommand(
  sqes: Int32Array,
  sqe: number,
  file: number,
  cmdOp: number,
  addressLow: number,
  addressHigh: number,
  length: number,
): void {
  sqes[sqe + SQE_OFF] = cmdOp;
  sqes[sqe + SQE_OFF + 1] = 0;
  sqes[sqe + SQE_ADDR] = addressLow;
  sqes[sqe + SQE_ADDR + 1] = addressHigh;
  prepRwWords(sqes, sqe, IORING_OP_URING_CMD, file, length, 0, 0, 0);
}

/** A completion in the ring that `ringFd` is, as if it were one of its own. */
export function prepMessage(
  sqes: Int32Array,
  sqe: number,
  ringFd: number,
  slot: number,
  meta: number,
  res: number,
): void {
  prepRw(sqes, sqe, IORING_OP_MSG_RING, ringFd, 0, 0, res, 0, 0, 0);
  sqes[sqe + SQE_OPCODE_FLAGS] = IORING_OP_MSG_RING; // no registered file
  sqes[sqe + SQE_OFF] = slot;
  sqes[sqe + SQE_OFF + 1] = meta;
}

/** A command that goes on completing, into buffers of group `group`. */
export function makeMultishot(sqes: Int32Array, sqe: number, group: number): void {
  sqes[sqe + SQE_OPCODE_FLAGS]! |= IOSQE_BUFFER_SELECT << 8;
  sqes[sqe + SQE_OP_FLAGS] = IORING_URING_CMD_MULTISHOT;
  sqes[sqe + SQE_BUF_INDEX] = group;
}

/** No completion unless it failed. */
export function skipSuccess(sqes: Int32Array, sqe: number): void {
  sqes[sqe + SQE_OPCODE_FLAGS]! |= IOSQE_CQE_SKIP_SUCCESS << 8;
}

export function setUserData(sqes: Int32Array, sqe: number, slot: number, meta: number): void {
  sqes[sqe + SQE_USER_DATA] = slot;
  sqes[sqe + SQE_USER_DATA + 1] = meta;
}
