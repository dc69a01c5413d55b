/** src/cli/top.ts on a terminal: it draws, fits, and goes as it came. */

import { expect, test } from "bun:test";
import { atTerminal } from "../../terminal.ts";

const LEAVES = "\x1b[?25h\x1b[?1049l";

test.each([
  ["q", "q"],
  ["^C", "\x03"],
])("%s quits, and the screen is as it was", async (_, key) => {
  const { code, shown } = await atTerminal(["top"], async (terminal) => void terminal.write(key));
  expect(code).toBe(0);
  expect(shown).toStartWith("\x1b[?1049h");
  expect(shown).toContain("ublk top, ");
  expect(shown).toEndWith(LEAVES);
});

test("so does a signal", async () => {
  const { code, shown } = await atTerminal(["top"], async (_, child) => child.kill("SIGTERM"));
  expect([code, shown.endsWith(LEAVES)]).toEqual([0, true]);
});

test("a terminal that shrinks gets what fits", async () => {
  const { shown } = await atTerminal(["top", "-i", "3600"], async (terminal, _, soFar) => {
    terminal.resize(12, 5);
    while (soFar().split("\x1b[H").length < 3) await Bun.sleep(20);
    terminal.write("q");
  });
  const screens = shown.split("\x1b[H");
  expect(screens.length).toBeGreaterThan(2);
  expect(screens[1]).toContain("(q quits)");
  expect(screens.at(-1)).not.toContain("(q quits)");
});

test("help has colours on a terminal, unless its owner declines", async () => {
  expect((await atTerminal(["help", "del"])).shown).toContain("\x1b[");
  const declined = await atTerminal(["help", "del"], undefined, { NO_COLOR: "1" });
  expect(declined.shown).not.toContain("\x1b[");
});
