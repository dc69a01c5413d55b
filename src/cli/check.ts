/** `ublk check`: whether an image is consistent, and repairs when asked to. */

import { type CommandDef, defineCommand } from "citty";
import { EXIT_FAILED, reportOf } from "../control/report.ts";
import { UsageError } from "../target/parse.ts";
import type { CheckReport, CheckWish, TargetRegistry } from "../target/target.ts";
import { imageArgument, imageTools } from "./image.ts";
import { cittyArgs, JSON_OPTION, type OptionTable } from "./options.ts";
import { note, print } from "./print.ts";

const OPTIONS: OptionTable = {
  repair: {
    type: "string",
    alias: "r",
    valueHint: "WHAT",
    description: "put right what is wrong: leaks, or all",
  },
  json: JSON_OPTION,
};
const BAR_CELLS = 40;

export function checkCommand(targets: TargetRegistry): CommandDef {
  return defineCommand({
    meta: {
      name: "check",
      description: "look for errors in an image (exit status as qemu-img check: 0, 1, 2, 3, 63)",
    },
    args: cittyArgs(OPTIONS),
    async run({ rawArgs }) {
      const { path, values } = imageArgument("check", rawArgs, OPTIONS);
      const repair = values["repair"];
      if (repair !== undefined && repair !== "leaks" && repair !== "all") {
        throw new UsageError(`--repair '${repair}': say leaks or all`);
      }
      const wish: CheckWish = { repair };
      if (process.stderr.isTTY) wish.progress = showProgress;
      process.exitCode = EXIT_FAILED; // until there is a better answer
      const tools = await imageTools(targets);
      const report = checked(() => tools.check(path, wish));
      const json = values["json"] === true;
      const { refusal, status } = report;
      if (refusal !== undefined) {
        // An error like all others but for its exit status.
        note(reportOf(refusal, "ublk check", json, status).text);
      } else if (json) print(`${JSON.stringify(report.json)}\n`);
      else print(`${report.lines.join("\n")}\n`);
      process.exitCode = status;
    },
  });
}

/** What `check` answers or throws, on a line without the bar. */
function checked(check: () => CheckReport): CheckReport {
  try {
    return check();
  } finally {
    if (process.stderr.isTTY) note("\r\x1b[K");
  }
}

function showProgress(part: number): void {
  const cells = Math.round(part * BAR_CELLS);
  const bar = "#".repeat(cells).padEnd(BAR_CELLS, ".");
  note(`\r[${bar}] ${(part * 100).toFixed(0).padStart(3)}%`);
}
