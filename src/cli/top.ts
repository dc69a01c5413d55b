/** `ublk top`: what devices do, looked at again and again until q. */

import { defineCommand } from "citty";
import { within } from "../control/within.ts";
import { UsageError } from "../target/parse.ts";
import { cittyArgs, type OptionTable, parseOptions } from "./options.ts";
import { type Counted, look, parseInterval, reportsOf } from "./stat.ts";
import { statText } from "./stat_text.ts";

const OPTIONS: OptionTable = {
  interval: {
    type: "string",
    alias: "i",
    valueHint: "SECONDS",
    description: "between two looks (default 1)",
  },
};

/** The other screen of the terminal, without a cursor, and back again. */
const ENTER = "\x1b[?1049h\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";
const HOME = "\x1b[H";
const LINE_END = "\x1b[K\r\n";
const BELOW = "\x1b[J";
const CONTROL_C = "\x03";

export const topCommand = defineCommand({
  meta: { name: "top", description: "watch what devices do, live in the terminal" },
  args: cittyArgs(OPTIONS),
  async run({ rawArgs }) {
    const seconds = parseInterval(parseOptions(rawArgs, OPTIONS)["interval"]) ?? 1;
    const { stdin, stdout } = process;
    if (!stdout.isTTY || !stdin.isTTY) {
      throw new UsageError("top needs a terminal; ublk stat --interval 1 does without");
    }
    look(undefined); // complains before the screen is another one
    stdin.setRawMode(true);
    const over = toldToEnd();
    stdout.write(ENTER);
    try {
      await watch(seconds, over);
    } finally {
      stdin.setRawMode(false);
      stdin.pause();
      stdout.write(LEAVE);
    }
  },
});

/** By a key or a signal. */
function toldToEnd(): Promise<void> {
  const over = Promise.withResolvers<void>();
  process.stdin.on("data", (keys: Buffer) => {
    if (keys.includes("q") || keys.includes(CONTROL_C)) over.resolve();
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => over.resolve());
  }
  return over.promise;
}

async function watch(seconds: number, over: Promise<void>): Promise<void> {
  let before: Counted[] = [];
  let begin = 0;
  let shown = "";
  process.stdout.on("resize", () => draw(shown));
  for (;;) {
    const now = look(undefined);
    const passed = before.length === 0 ? undefined : (performance.now() - begin) / 1000;
    begin = performance.now();
    shown = statText(reportsOf(now, before, passed));
    draw(shown);
    before = now;
    if (await within(seconds * 1000, over)) return;
  }
}

/** As much as the terminal has room for at the moment. */
function draw(text: string): void {
  const { columns, rows } = process.stdout;
  process.stdout.write(screen(text, columns, rows));
}

export function screen(text: string, columns: number, rows: number): string {
  const title = `ublk top, ${new Date().toLocaleTimeString("en-GB")} (q quits)`;
  const lines = [title, "", ...text.trimEnd().split("\n")].slice(0, rows - 1);
  return HOME + lines.map((line) => line.slice(0, columns) + LINE_END).join("") + BELOW;
}
