/** src/control/unit.ts: units that systemd takes, and that call verbs and options that exist. */

import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { addCommand } from "../../../src/cli/add.ts";
import { stopCommand } from "../../../src/cli/stop.ts";
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

test("the options that they give to add and to stop are ones that these know", async () => {
  const files = unitFiles("/usr/bin/ublk");
  const given = {
    add: /^ExecStart=\/usr\/bin\/ublk add (.*) \$OPTIONS$/m.exec(files["ublk@.service"])![1]!,
    stop: /^ExecStart=\/usr\/bin\/ublk stop (.*)$/m.exec(files["ublk-stop@.service"])![1]!,
  };
  const commands = { add: await addCommand(targets, ["-t", "null"]), stop: stopCommand };
  for (const verb of ["add", "stop"] as const) {
    const args = commands[verb].args as Record<string, { alias?: string }>;
    const known = Object.entries(args).flatMap(([name, { alias }]) => [`--${name}`, `-${alias}`]);
    for (const option of given[verb].match(/-[-a-z]+/g)!) expect(known).toContain(option);
  }
});

test("what is given up is nothing that somebody serves, and wrong words are not tried again", () => {
  const files = unitFiles("/usr/bin/ublk");
  expect(files["ublk-stop@.service"]).toContain(" stop --unserved -n %i");
  expect(files["ublk@.service"]).toContain("\nRestartPreventExitStatus=2\n");
});
