/** src/cli/check.ts: on a terminal there is a bar, and nothing of it when something is said. */

import { expect, test } from "bun:test";
import { atTerminal } from "../../terminal.ts";
import { tempFolder } from "../../temp.ts";

const path = tempFolder();

test("an error has a line of its own, without what is left of a bar", async () => {
  const { code, shown } = await atTerminal(["check", path("missing.qcow2")]);
  expect(code).toBe(1);
  expect(shown).toContain(`\r\u001b[Kublk check: open `);
});
