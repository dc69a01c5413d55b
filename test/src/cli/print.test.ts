/** src/cli/print.ts: the block that scripts pick apart, whatever paths it holds. */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { deviceBlock, featureList } from "../../../src/cli/print.ts";
import { flagNames } from "../../../src/control/features.ts";
import type { DeviceView } from "../../../src/control/view.ts";
import { Random } from "../../sim/random.ts";

const OUTPUT = join(import.meta.dir, "../../../src/control/output.ts");
const PRINT = join(import.meta.dir, "../../../src/cli/print.ts");

const VIEW: DeviceView = {
  dev_id: 3,
  block_device: "/dev/ublkb3",
  char_device: "/dev/ublkc3",
  state: "LIVE",
  ublksrv_pid: 4321,
  nr_hw_queues: 2,
  queue_depth: 64,
  max_io_buf_bytes: 524288,
  flags: 0x6042,
  flag_names: ["URING_CMD_COMP_IN_TASK", "CMD_IOCTL_ENCODE"],
  mode: "copy",
  batch: false,
  logical_block_size: 512,
  physical_block_size: 4096,
  dev_sectors: 2048,
  read_only: false,
  owner_uid: 0,
  owner_gid: 0,
  char_major: 240,
  char_minor: 3,
  disk_major: 259,
  disk_minor: 5,
  queues: [
    { q_id: 0, tid: 4330, affinity: [0, 2] },
    { q_id: 1, tid: 4331, affinity: [1, 3] },
  ],
  target: { name: "loop", backing_file: "/data/a.img", direct_io: true },
};

const blockOf = (backing_file: string): string =>
  deviceBlock({ ...VIEW, target: { name: "loop", backing_file } });

test("a device is shown in exactly these lines", () => {
  expect(deviceBlock(VIEW)).toBe(
    [
      "dev id 3: nr_hw_queues 2 queue_depth 64 block size 512 dev_capacity 2048",
      "\tmax rq size 524288 daemon pid 4321 state LIVE",
      "\tflags 0x6042 [ URING_CMD_COMP_IN_TASK CMD_IOCTL_ENCODE ]",
      "\tublkc: 240:3 ublkb: 259:5 owner: 0:0",
      "\tqueue 0: tid 4330 affinity(0 2 )",
      "\tqueue 1: tid 4331 affinity(1 3 )",
      '\ttarget {"backing_file":"/data/a.img","name":"loop","direct_io":true}',
      "",
    ].join("\n"),
  );
});

/** What a shell script gets out of the block. */
function shell(script: string, block: string): string {
  const child = Bun.spawnSync(["sh", "-c", script], { stdin: Buffer.from(block) });
  return child.stdout.toString().trim();
}

const SCRIPTS = [
  ["grep pid | awk '{print $7}'", "4321"],
  ["grep pid | cut -d' ' -f7", "4321"],
  ["grep state | awk '{print $9}'", "LIVE"],
  ["grep 'dev id' | awk '{print $5}'", "2"],
  ["grep -c 'queue [0-9]*:'", "2"],
  ["grep 'queue 0' | awk '{print $4}'", "4330"],
  ["grep flags | awk '{print $2}'", "0x6042"],
  ["grep ublkc | awk '{print $2}'", "240:3"],
  ["sed -n 's/^\ttarget {\"\\([a-z_]*\\)\".*/\\1/p'", "backing_file"],
] as const;

describe("what scripts pick is the same, whatever the path is called:", () => {
  test.each([
    "/data/a.img",
    "/pid 7 state DEAD/queue 0: tid 1/dev id 9: flags 0x1 ublkc: 1:1",
    "/data/pidpidstatequeue0flags",
    "/tmp/dev id 3: nr_hw_queues 9",
  ])("%s", (path) => {
    for (const [script, answer] of SCRIPTS) expect(shell(script, blockOf(path))).toBe(answer);
  });
});

describe("the target's line is JSON that means what it says:", () => {
  const target = (block: string): unknown => JSON.parse(block.split("\ttarget ")[1]!);
  const paths = ["/a b", "/p\u0000id", "/\u000clags", "/\\pid", "/\\\\state", '/"queue"', "/pid\n"];

  test.each(paths)("%j", (path) => {
    expect(target(blockOf(path))).toEqual({ name: "loop", backing_file: path });
  });

  test("a control character of a path is never a terminal's", () => {
    const controls = Array.from({ length: 0xa0 }, (_, code) => String.fromCharCode(code)).join("");
    const block = blockOf(controls);
    expect(target(block)).toEqual({ name: "loop", backing_file: controls });
    expect(block.split("\ttarget ")[1]!.trimEnd()).toMatch(/^[ -~]+$/);
  });

  test("any path at all, and none of the words in it is left", () => {
    const random = new Random(1);
    const parts = ["pid", "state", "queue", "dev id", "flags", "ublkc", "\\", '"', "\f"];
    parts.push("\n", "é", "p", "lags", "u0070", "\u{1f4a5}", "\ud800", " ", "\\f", "\b");
    for (let round = 0; round < 2000; round++) {
      const path = Array.from({ length: 1 + random.int(6) }, () => random.pick(parts)).join("");
      const block = blockOf(path);
      expect(target(block)).toEqual({ name: "loop", backing_file: path });
      expect(block.trimEnd().split("\n")).toHaveLength(7);
      expect(block.split("\ttarget ")[1]).not.toMatch(/pid|state|queue|dev id|flags|ublkc/);
    }
  });
});

test("a server that writes is told what failed, and goes on; a command that prints ends", async () => {
  const source = `
    const { print } = await import(${JSON.stringify(PRINT)});
    const { writeAll } = await import(${JSON.stringify(OUTPUT)});
    await Bun.sleep(1000); // a reader that goes has gone
    for (const text of ["one", "two"]) {
      try { writeAll(1, text); } catch (error) { console.error(error.message.split(" ")[3]); }
    }
    print("three");
  `;
  const run = (redirect: string) =>
    Bun.spawnSync(["bash", "-c", `"$0" -e "$1" ${redirect}`, process.execPath, source]);
  const full = run("> /dev/full");
  expect(full.stderr.toString()).toStartWith("ENOSPC\nENOSPC\n");
  const gone = run("> >(exec 0<&-)");
  expect([gone.exitCode, gone.stderr.toString()]).toEqual([141, "EPIPE\nEPIPE\n"]);
});

test("features are listed by bit, one a line, with the kernel's name", () => {
  const flags = flagNames((1n << 11n) | (1n << 40n) | 8n);
  expect(featureList(0x10000000808n, flags)).toBe(
    [
      "ublk_drv features: 0x10000000808",
      "0x8       : RECOVERY                UBLK_F_USER_RECOVERY",
      "0x800     : AUTO_ZC                 UBLK_F_AUTO_BUF_REG",
      "0x10000000000: BIT_40",
      "",
    ].join("\n"),
  );
});
