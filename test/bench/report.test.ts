import { expect, test } from "bun:test";
import { verdicts } from "./verdicts.ts";
import { type Cell, digits, type Raw, spread } from "./numbers.ts";
import { nativeReport } from "./native.ts";
import { parseOptions } from "./options.ts";
import { pace } from "./pace.ts";
import { picture } from "./picture.ts";
import { report } from "./report.ts";
import { chosen, nameOf } from "./table.ts";

const cell = (contestant: string, round: number, facts: Partial<Cell>): Cell => ({
  ...{ section: "null", contestant, workload: "rr32", round, ...facts },
});
const RAW: Raw = {
  about: { kernel: "7.2" },
  cells: [
    ...[90_000, 110_000, 100_000].map((iops, at) =>
      cell("ublk (default)", at, { iops, user: 30, requests: 10 }),
    ),
    ...[101_000, 99_000, 100_000].map((iops, at) =>
      cell("kublk -q 1", at, { iops, user: 20, requests: 10 }),
    ),
    cell("kublk -q 1 -b", 0, { error: "it did not start" }),
  ],
  loaded: [{ section: "null", contestant: "ublk (default)", rss: 30 * 1024 }],
  idle: [{ contestant: "ublk (default)", devices: 1, rss: 50 * 1024, pss: 40 * 1024, cpu: 0 }],
};

test("a median is the middle one, or between the two in the middle", () => {
  expect(spread([3, 1, undefined, 2])).toEqual({ median: 2, min: 1, max: 3, count: 3 });
  expect(spread([4, 1])?.median).toBe(2.5);
  expect(spread([undefined])).toBeUndefined();
});

test("numbers are shown with three digits", () => {
  expect([0, 0.512, 9.999, 12.34, 99.96, 1234].map(digits)).toEqual([
    ...["0", "0.51", "10.0", "12.3", "100", "1234"],
  ]);
});

test("a goal is reached, missed by so much, or was not measured", () => {
  const of = (what: string) => verdicts(RAW).find((one) => one.what.startsWith(what));
  expect(of("null: best of each")).toMatchObject({ value: 1, verdict: "missed by 4.76 %" });
  expect(of("null: against null_blk")?.verdict).toBe("not measured");
  expect(of("user CPU")).toMatchObject({ value: 1.5, bound: "≤ 1.1 ×" });
  expect(of("resident memory of an idle")?.verdict).toBe("missed by 25.0 %");
  expect(of("loop")).toBeUndefined();
});

test("what failed is told, in the table and below it", () => {
  const text = report(RAW, "results.svg");
  expect(text).toMatch(/`kublk -q 1 -b` +\| failed/);
  expect(text).toContain("- null, `kublk -q 1 -b`, rr32: it did not start");
  expect(text).toContain("100 (90.0–110)");
  expect(picture(RAW)).toContain(">100</text>");
});

test("--only names sections, contestants and workloads", () => {
  const [section, ...others] = chosen(false, /^null\/ublk -z\/rr/);
  expect(others).toEqual([]);
  expect(section?.contestants.map(nameOf)).toEqual(["ublk -z"]);
  expect(section?.contestants[0]?.workloads).toEqual(["rr32", "rr128"]);
});

test("more minutes make longer runs, more rounds shorter ones", () => {
  const run = (...words: string[]) => {
    const options = parseOptions(words);
    return options ? pace(chosen(false, undefined), 200, options).run : 0;
  };
  expect(run("--minutes", "90")).toBeGreaterThan(run());
  expect(run("--rounds", "9")).toBeLessThan(run());
});

test("the native report compares user time with kublk's, all rounds together", () => {
  const text = nativeReport({ kernel: "7.2" }, [
    ...RAW.cells,
    cell("ublk --mode copy", 0, { iops: 50_000, user: 30, requests: 10 }),
    cell("ublk --mode copy", 1, { iops: 70_000, user: 50, requests: 10 }),
  ]);
  expect(text).toMatch(/`ublk --mode copy` +\| 4\.00 \(3\.00–5\.00\) +\| 2\.00 +\|/);
  expect(text).toMatch(/`kublk -q 1` +\| 2\.00 \(2\.00–2\.00\) +\| 1\.00 +\|/);
  expect(text).toMatch(/`kublk -q 1 -b` +\| failed/);
});
