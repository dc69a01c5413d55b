/** src/control/unit.ts: units that systemd takes, and that call verbs and options that exist. */

import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { addCommand } from "../../../src/cli/add.ts";
import { unitFiles } from "../../../src/control/unit.ts";
import { targets } from "../../../targets/index.ts";
import { tempFolder } from "../../temp.ts";

const path = tempFolder();

test.skipIf(Bun.which("systemd-analyze") === null)("systemd finds nothing wrong with them", () => {
  mkdirSync(path("units"));
  for (const [name, text] of Object.entries(unitFiles("/bin/true"))) {
    writeFileSync(path(`units/${name}`), text);
  }
  const units = ["ublk@0.service", "ublk-stop@0.service"].map((name) => path(`units/${name}`));
  for (const unit of units) {
    const { exitCode, stderr } = Bun.spawnSync(["systemd-analyze", "verify", "--man=no", unit]);
    const ours = stderr
      .toString()
      .split("\n")
      .filter((line) => line.includes("ublk"));
    expect([unit, exitCode, ours]).toEqual([unit, 0, []]);
  }
});

test("the options that they give to add are ones that it knows", async () => {
  const text = unitFiles("/usr/bin/ublk")["ublk@.service"];
  const line = /^ExecStart=\/usr\/bin\/ublk add (.*) \$OPTIONS$/m.exec(text)![1]!;
  const { args } = await addCommand(targets, ["-t", "null"]);
  const known = Object.entries(args as Record<string, { alias?: string }>).flatMap(
    ([name, { alias }]) => [`--${name}`, `-${alias}`],
  );
  for (const option of line.match(/-[-a-z]+/g)!) expect(known).toContain(option);
});
