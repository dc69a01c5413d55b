/** src/cli/udev_rules.ts: rules as udev(7) has them. */

import { expect, test } from "bun:test";
import { rules } from "../../../src/cli/udev_rules.ts";

const lines = rules("/usr/local/bin/ublk")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"));

test("every line is matches and assignments", () => {
  expect(lines.length).toBeGreaterThan(5);
  const one = String.raw`[A-Z]+(\{\w+\})?(==|!=|=|\+=)"[^"]*"`;
  for (const line of lines) expect(line).toMatch(new RegExp(`^${one}(, ${one})*$`));
});

test("every GOTO has its LABEL, further down", () => {
  lines.forEach((line, at) => {
    const [, label] = /GOTO="(\w+)"/.exec(line) ?? [];
    if (label !== undefined) expect(lines.slice(at)).toContain(`LABEL="${label}"`);
  });
});

test("anybody may add devices, or the members of a group", () => {
  expect(lines[0]).toContain('MODE="0666"');
  expect(rules("/usr/local/bin/ublk", "disks")).toContain('GROUP="disks", MODE="0660"');
});
