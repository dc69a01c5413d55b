/** src/cli/stat.ts and its text: what is shown of counters, and what is refused. */

import { expect, test } from "bun:test";
import { type Counted, parseInterval, reportsOf } from "../../../src/cli/stat.ts";
import { histograms, statText } from "../../../src/cli/stat_text.ts";
import { screen } from "../../../src/cli/top.ts";
import { listTable } from "../../../src/cli/list_table.ts";
import type { OpStats, Stats } from "../../../src/control/stats.ts";
import type { DeviceView } from "../../../src/control/view.ts";
import { BUCKETS, COUNTED_OPS } from "../../../src/target/counters.ts";

function op(ios: number, us: number): OpStats {
  const bucket = 32 - Math.clz32(us);
  const histogram = Array.from({ length: BUCKETS }, (_, at) => (at === bucket ? ios : 0));
  return { ios, bytes: ios * 4096, errors: 0, time_us: ios * us, histogram };
}

function device(reads: number, writes: number): Counted {
  const ops = Object.fromEntries(COUNTED_OPS.map((name) => [name, op(0, 0)])) as Stats["ops"];
  ops.read = op(reads, 100);
  ops.write = op(writes, 3000);
  const stats = { since_ms: Date.now() - 1000, ublksrv_pid: 1, in_flight: 2, ops };
  return { dev_id: 4, block_device: "/dev/ublkb4", target: "loop", stats };
}

test("a table has a line for each operation that happened, and one for all", () => {
  const lines = statText(reportsOf([device(200, 100)], [], 1))
    .trimEnd()
    .split("\n");
  const words = lines.map((line) => line.trim().split(/\s+/));
  expect(words[1]).toEqual("/dev/ublkb4 loop all 300 1.2M 4K 2 0.3 1.1ms 128us 4.1ms 0".split(" "));
  expect(words[2]).toEqual("read 200 800K 4K 100us 128us 128us 0".split(" "));
  expect(words[3]).toEqual("write 100 400K 4K 3ms 4.1ms 4.1ms 0".split(" "));
  expect(words).toHaveLength(4);
});

test("one kind of operation needs no sum, and none at all is a line too", () => {
  expect(statText(reportsOf([device(5, 0)], [], 1)).split("\n")).toHaveLength(3);
  expect(statText(reportsOf([device(0, 0)], [], 1))).toContain("all");
  expect(statText([])).toBe("no devices that are counted\n");
});

test("histograms are bars from the first bucket to the last", () => {
  const text = histograms(reportsOf([device(7, 1)], [], 1));
  expect(text).toContain("/dev/ublkb4 read\n");
  expect(text).toMatch(new RegExp(`< 128us +7  ${"#".repeat(40)}\n`));
  expect(text).toMatch(/< 4.1ms +1 {2}#+\n/);
  expect(histograms([])).toBe("nothing has happened\n");
});

test.each(["0.1", "1", "2.50", "3600", "010"])("'%s' is an interval", (text) => {
  expect(parseInterval(text)).toBe(Number(text));
});

test.each(["0x10", "1e1", "1e-0", "", " 1", "1.", ".5", "-1", "0.09", "3601", "1s", "Infinity"])(
  "'%s' is none",
  (text) => {
    expect(() => parseInterval(text)).toThrow("give seconds, from 0.1 to 3600");
  },
);

test("a screen never has more than the terminal", () => {
  const text = Array.from({ length: 50 }, () => "x".repeat(300)).join("\n");
  const drawn = screen(text, 20, 10);
  expect(drawn.split("\r\n")).toHaveLength(10);
  // oxlint-disable-next-line no-control-regex
  for (const line of drawn.replaceAll(/\x1b\[[A-Z]/g, "").split("\r\n")) {
    expect(line.length).toBeLessThanOrEqual(20);
  }
});

test("a list for people is a line a device, whatever its file is called", () => {
  const view = {
    ...{ block_device: "/dev/ublkb0", dev_sectors: 2 ** 21, state: "LIVE", read_only: true },
    ...{ mode: "copy", batch: false, nr_hw_queues: 2, queue_depth: 64, ublksrv_pid: 77 },
    target: { name: "qcow2", backing_file: "/a/\x1b[2Jb\n.qcow2" },
  } as unknown as DeviceView;
  const lines = listTable([view, { ...view, target: {}, ublksrv_pid: -1 }]).split("\n");
  expect(lines[1]!.split(/\s+/)).toEqual(
    "/dev/ublkb0 1G qcow2 LIVE,ro copy 2x64 77 /a/?[2Jb?.qcow2".split(" "),
  );
  expect(lines[2]!.split(/\s+/)).toEqual("/dev/ublkb0 1G ? LIVE,ro copy 2x64 -".split(" "));
  expect(listTable([])).toStartWith("no devices");
});
