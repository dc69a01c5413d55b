/** src/control/command.ts: what is sent, and how a refusal is explained. */

import { describe, expect, test } from "bun:test";
import { constants } from "node:os";
import { SysError } from "../../../ffi/errno.ts";
import { CTRL, type CtrlName, ublksrvCtrlCmd } from "../../../ffi/ublk_cmd.ts";
import { type Channel, type Command, execute } from "../../../src/control/command.ts";

const { EPERM, EACCES, ENODEV, EEXIST, EOPNOTSUPP, EINVAL, EBUSY } = constants.errno;
const ENOTSUPP = 524;

/** Answers everything with `result`, and remembers what came. */
class Recorder implements Channel {
  readonly sent: { cmdOp: number; cmd: Uint8Array }[] = [];
  result = 0;

  async send(cmdOp: number, cmd: Uint8Array): Promise<number> {
    this.sent.push({ cmdOp, cmd });
    return this.result;
  }

  close(): void {}
}

async function refusal(command: Command, errno: number): Promise<SysError> {
  const channel = new Recorder();
  channel.result = -errno;
  const error: unknown = await execute(channel, command).catch((failure: unknown) => failure);
  if (!(error instanceof SysError)) throw new Error(`no refusal but ${String(error)}`);
  return error;
}

describe("a command carries", () => {
  test("its device, its buffer, its datum, and no queue", async () => {
    const channel = new Recorder();
    const buffer = new Uint8Array(new ArrayBuffer(72));
    const rest = { buffer, data: 2 ** 40 + 3 };
    await execute(channel, { name: "UBLK_U_CMD_GET_DEV_INFO2", id: 5, ...rest });
    const [{ cmdOp, cmd } = { cmdOp: 0, cmd: new Uint8Array() }] = channel.sent;
    expect(cmdOp).toBe(CTRL.UBLK_U_CMD_GET_DEV_INFO2);
    expect(ublksrvCtrlCmd.decode(cmd)).toMatchObject({
      dev_id: 5,
      queue_id: 0xffff,
      len: "/dev/ublkc5".length + 1 + 72,
      data: 2n ** 40n + 3n,
      dev_path_len: "/dev/ublkc5".length + 1,
    });
    expect(ublksrvCtrlCmd.decode(cmd).addr).toBeGreaterThan(0n);
  });

  test("no device as all ones, and no buffer as zero", async () => {
    const channel = new Recorder();
    await execute(channel, { name: "UBLK_U_CMD_GET_FEATURES", id: -1 });
    const sent = ublksrvCtrlCmd.decode(channel.sent[0]!.cmd);
    expect(sent).toMatchObject({ dev_id: 0xffffffff, len: 0, addr: 0n, data: 0n });
  });
});

test("a result that is no error is answered as it is", async () => {
  const channel = new Recorder();
  channel.result = 3;
  expect(await execute(channel, { name: "UBLK_U_CMD_STOP_DEV", id: 0 })).toBe(3);
});

describe("a refusal", () => {
  test("names the command, the device and the errno", async () => {
    const error = await refusal({ name: "UBLK_U_CMD_START_DEV", id: 4 }, EBUSY);
    expect([error.op, error.errno, error.subject]).toEqual([
      "UBLK_U_CMD_START_DEV",
      EBUSY,
      "device 4",
    ]);
    expect(error.message).toStartWith("UBLK_U_CMD_START_DEV device 4: EBUSY");
  });

  test("where no device is meant names none", async () => {
    expect((await refusal({ name: "UBLK_U_CMD_GET_FEATURES", id: -1 }, EBUSY)).subject).toBe(
      undefined,
    );
  });

  test.each([
    ["UBLK_U_CMD_ADD_DEV", EPERM, "run as root, or add --unprivileged"],
    ["UBLK_U_CMD_ADD_DEV", EACCES, "parameters/ublks_max"],
    ["UBLK_U_CMD_GET_DEV_INFO2", EACCES, "run as root, or as the device's owner"],
    ["UBLK_U_CMD_STOP_DEV", ENODEV, "there is no ublk device 9; ublk list shows"],
    ["UBLK_U_CMD_ADD_DEV", EEXIST, "choose another with -n"],
    ["UBLK_U_CMD_GET_FEATURES", EOPNOTSUPP, "does not know the command"],
    ["UBLK_U_CMD_GET_FEATURES", ENOTSUPP, "does not know the command"],
  ] as [CtrlName, number, string][])(
    "%s with errno %i says what to do",
    async (name, code, hint) => {
      expect((await refusal({ name, id: 9 }, code)).hint).toContain(hint);
    },
  );

  test.each([
    ["UBLK_U_CMD_SET_PARAMS", EINVAL],
    ["UBLK_U_CMD_START_DEV", EEXIST],
  ] as [CtrlName, number][])(
    "%s with errno %i has no hint that would mislead",
    async (name, code) => {
      expect((await refusal({ name, id: 9 }, code)).hint).toBeUndefined();
    },
  );
});
