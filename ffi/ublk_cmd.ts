/**
 * The ublk UAPI under its own names: include/uapi/linux/ublk_cmd.h.
 *
 * `test/ffi/ublk_cmd.test.ts` asks the C compiler where each member and what each constant is.
 */

import { i32, member, struct, u16, u32, u64, u8 } from "./struct.ts";

const IOC_WRITE = 1;
const IOC_READ = 2;
const CTRL_CMD_SIZE = 32;
const IO_CMD_SIZE = 16;

/** _IOC() of asm-generic/ioctl.h with the type 'u'. */
function ioc(direction: number, nr: number, size: number): number {
  return ((direction << 30) | (size << 16) | (0x75 << 8) | nr) >>> 0;
}
const ior = (nr: number): number => ioc(IOC_READ, nr, CTRL_CMD_SIZE);
const iowr = (nr: number): number => ioc(IOC_READ | IOC_WRITE, nr, CTRL_CMD_SIZE);
const iowrIo = (nr: number): number => ioc(IOC_READ | IOC_WRITE, nr, IO_CMD_SIZE);

/** Control commands, for /dev/ublk-control. */
export const CTRL = {
  UBLK_U_CMD_GET_QUEUE_AFFINITY: ior(0x01),
  UBLK_U_CMD_GET_DEV_INFO: ior(0x02),
  UBLK_U_CMD_ADD_DEV: iowr(0x04),
  UBLK_U_CMD_DEL_DEV: iowr(0x05),
  UBLK_U_CMD_START_DEV: iowr(0x06),
  UBLK_U_CMD_STOP_DEV: iowr(0x07),
  UBLK_U_CMD_SET_PARAMS: iowr(0x08),
  UBLK_U_CMD_GET_PARAMS: ior(0x09),
  UBLK_U_CMD_START_USER_RECOVERY: iowr(0x10),
  UBLK_U_CMD_END_USER_RECOVERY: iowr(0x11),
  UBLK_U_CMD_GET_DEV_INFO2: ior(0x12),
  UBLK_U_CMD_GET_FEATURES: ior(0x13),
  UBLK_U_CMD_DEL_DEV_ASYNC: ior(0x14),
  UBLK_U_CMD_UPDATE_SIZE: iowr(0x15),
  UBLK_U_CMD_QUIESCE_DEV: iowr(0x16),
  UBLK_U_CMD_TRY_STOP_DEV: iowr(0x17),
} as const;
export type CtrlName = keyof typeof CTRL;

/** IO commands, for /dev/ublkcN. */
export const UBLK_U_IO_FETCH_REQ = iowrIo(0x20);
export const UBLK_U_IO_COMMIT_AND_FETCH_REQ = iowrIo(0x21);
export const UBLK_U_IO_NEED_GET_DATA = iowrIo(0x22);
export const UBLK_U_IO_REGISTER_IO_BUF = iowrIo(0x23);
export const UBLK_U_IO_UNREGISTER_IO_BUF = iowrIo(0x24);
export const UBLK_U_IO_PREP_IO_CMDS = iowrIo(0x25);
export const UBLK_U_IO_COMMIT_IO_CMDS = iowrIo(0x26);
export const UBLK_U_IO_FETCH_IO_CMDS = iowrIo(0x27);

export const UBLK_IO_RES_OK = 0;
export const UBLK_IO_RES_NEED_GET_DATA = 1;
export const UBLK_IO_RES_ABORT = -19; // -ENODEV

export const UBLKSRV_CMD_BUF_OFFSET = 0;
export const UBLKSRV_IO_BUF_OFFSET = 0x80000000;
export const UBLK_MAX_QUEUE_DEPTH = 4096;
export const UBLK_MAX_NR_QUEUES = 4096;
export const UBLK_TAG_OFF = 25;
export const UBLK_QID_OFF = 41;

export const UBLK_IO_OP_READ = 0;
export const UBLK_IO_OP_WRITE = 1;
export const UBLK_IO_OP_FLUSH = 2;
export const UBLK_IO_OP_DISCARD = 3;
export const UBLK_IO_OP_WRITE_ZEROES = 5;

/** Bits of an iod's op_flags. */
export const UBLK_IO_F_FUA = 1 << 13;
export const UBLK_IO_F_NOUNMAP = 1 << 15;
export const UBLK_IO_F_SWAP = 1 << 16;
export const UBLK_IO_F_NEED_REG_BUF = 1 << 17;

/** Flags of struct ublk_auto_buf_reg, which travels in an SQE's address: index | flags << 16. */
export const UBLK_AUTO_BUF_REG_FALLBACK = 1 << 0;
export const UBLK_AUTO_BUF_REG_FLAGS_SHIFT = 16;

/** Flags of struct ublk_batch_io. */
export const UBLK_BATCH_F_HAS_BUF_ADDR = 1 << 1;
export const UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK = 1 << 2;

export const UBLK_ATTR_READ_ONLY = 1 << 0;
export const UBLK_ATTR_ROTATIONAL = 1 << 1;
export const UBLK_ATTR_VOLATILE_CACHE = 1 << 2;
export const UBLK_ATTR_FUA = 1 << 3;

export const UBLK_PARAM_TYPE_BASIC = 1 << 0;
export const UBLK_PARAM_TYPE_DISCARD = 1 << 1;
export const UBLK_PARAM_TYPE_DEVT = 1 << 2;
export const UBLK_PARAM_TYPE_DMA_ALIGN = 1 << 4;
export const UBLK_PARAM_TYPE_SEGMENT = 1 << 5;

/** UBLK_F_ flags by bit number. The short name is what ublksrv's `list` prints. */
export const FEATURES = [
  { flag: "UBLK_F_SUPPORT_ZERO_COPY", short: "SUPPORT_ZERO_COPY" },
  { flag: "UBLK_F_URING_CMD_COMP_IN_TASK", short: "URING_CMD_COMP_IN_TASK" },
  { flag: "UBLK_F_NEED_GET_DATA", short: "NEED_GET_DATA" },
  { flag: "UBLK_F_USER_RECOVERY", short: "RECOVERY" },
  { flag: "UBLK_F_USER_RECOVERY_REISSUE", short: "RECOVERY_REISSUE" },
  { flag: "UBLK_F_UNPRIVILEGED_DEV", short: "UNPRIVILEGED_DEV" },
  { flag: "UBLK_F_CMD_IOCTL_ENCODE", short: "CMD_IOCTL_ENCODE" },
  { flag: "UBLK_F_USER_COPY", short: "USER_COPY" },
  { flag: "UBLK_F_ZONED", short: "ZONED" },
  { flag: "UBLK_F_USER_RECOVERY_FAIL_IO", short: "RECOVERY_FAIL_IO" },
  { flag: "UBLK_F_UPDATE_SIZE", short: "UPDATE_SIZE" },
  { flag: "UBLK_F_AUTO_BUF_REG", short: "AUTO_ZC" },
  { flag: "UBLK_F_QUIESCE", short: "QUIESCE" },
  { flag: "UBLK_F_PER_IO_DAEMON", short: "PER_IO_DAEMON" },
  { flag: "UBLK_F_BUF_REG_OFF_DAEMON", short: "BUF_REG_OFF_DAEMON" },
  { flag: "UBLK_F_BATCH_IO", short: "BATCH_IO" },
  { flag: "UBLK_F_INTEGRITY", short: "INTEGRITY" },
  { flag: "UBLK_F_SAFE_STOP_DEV", short: "SAFE_STOP_DEV" },
  { flag: "UBLK_F_NO_AUTO_PART_SCAN", short: "NO_AUTO_PART_SCAN" },
  { flag: "UBLK_F_SHMEM_ZC", short: "SHMEM_ZC" },
  { flag: "UBLK_F_IO_DESC_SIZE", short: "IO_DESC_SIZE" },
] as const;
export type FeatureFlag = (typeof FEATURES)[number]["flag"];

/** Device states by number (UBLK_S_DEV_*). */
export const STATES = ["DEAD", "LIVE", "QUIESCED", "FAIL_IO"] as const;

export const ublksrvCtrlCmd = struct("ublksrv_ctrl_cmd", CTRL_CMD_SIZE, {
  dev_id: u32(0),
  queue_id: u16(4),
  len: u16(6),
  addr: u64(8),
  data: u64(16),
  dev_path_len: u16(24),
});

export const ublksrvCtrlDevInfo = struct("ublksrv_ctrl_dev_info", 64, {
  nr_hw_queues: u16(0),
  queue_depth: u16(2),
  state: u16(4),
  io_desc_size: u16(6),
  max_io_buf_bytes: u32(8),
  dev_id: u32(12),
  ublksrv_pid: i32(16),
  flags: u64(24),
  ublksrv_flags: u64(32),
  owner_uid: u32(40),
  owner_gid: u32(44),
});

const ublkParamBasic = struct("ublk_param_basic", 32, {
  attrs: u32(0),
  logical_bs_shift: u8(4),
  physical_bs_shift: u8(5),
  io_opt_shift: u8(6),
  io_min_shift: u8(7),
  max_sectors: u32(8),
  chunk_sectors: u32(12),
  dev_sectors: u64(16),
  virt_boundary_mask: u64(24),
});

const ublkParamDiscard = struct("ublk_param_discard", 20, {
  discard_alignment: u32(0),
  discard_granularity: u32(4),
  max_discard_sectors: u32(8),
  max_write_zeroes_sectors: u32(12),
  max_discard_segments: u16(16),
});

const ublkParamDevt = struct("ublk_param_devt", 16, {
  char_major: u32(0),
  char_minor: u32(4),
  disk_major: u32(8),
  disk_minor: u32(12),
});

const ublkParamDmaAlign = struct("ublk_param_dma_align", 8, {
  alignment: u32(0),
});

const ublkParamSegment = struct("ublk_param_segment", 16, {
  seg_boundary_mask: u64(0),
  max_segment_size: u32(8),
  max_segments: u16(12),
});

/** Without the members for zones and integrity; an older driver takes what it knows of it. */
export const ublkParams = struct("ublk_params", 152, {
  len: u32(0),
  types: u32(4),
  basic: member(8, ublkParamBasic),
  discard: member(40, ublkParamDiscard),
  devt: member(60, ublkParamDevt),
  dma: member(108, ublkParamDmaAlign),
  seg: member(120, ublkParamSegment),
});

/** struct ublksrv_io_desc, as 32-bit words: the queue reads it without decoding. */
export const IOD_SIZE = 24;
export const IOD_WORDS = 6;
export const IOD_OP_FLAGS = 0;
export const IOD_NR_SECTORS = 1;
export const IOD_START_SECTOR = 2;

/** struct ublksrv_io_cmd, as 32-bit words: q_id and tag share the first. */
export const IO_CMD_QID_TAG = 0;
export const IO_CMD_RESULT = 1;
export const IO_CMD_ADDR = 2;

/** struct ublk_batch_io: q_id and flags share the first word, nr_elem and elem_bytes the second. */
export const BATCH_QID_FLAGS = 0;
export const BATCH_NR_ELEM_BYTES = 1;
/** struct ublk_elem_header, followed by the buffer's address where the flags say so. */
export const ELEM_SIZE = 8;
export const ELEM_SIZE_WITH_ADDR = 16;

export type DevInfo = ReturnType<typeof ublksrvCtrlDevInfo.decode>;
