/** src/cli/stray.ts: who forgot an option is told which one. */

import { expect, test } from "bun:test";
import { addOptions } from "../../../src/cli/add.ts";
import { type OptionTable, parseOptions } from "../../../src/cli/options.ts";
import { delCommand } from "../../../src/cli/del.ts";
import { targets } from "../../../targets/index.ts";

const { table: LOOP } = await addOptions(targets, ["-t", "loop"]);
const { table: NULL } = await addOptions(targets, ["-t", "null"]);
const DEL = delCommand.args as OptionTable;

test.each([
  ["0", DEL, "unexpected word '0': a device is named with -n: -n 0"],
  ["/dev/ublkb0", DEL, "unexpected word '/dev/ublkb0': a device is named with -n: -n /dev/ublkb0"],
  ["--safe ublkb0", DEL, "unexpected word 'ublkb0'"],
  ["loop -f x", LOOP, "unexpected word 'loop': a type is named with -t: -t loop"],
  ["-t loop x.img", LOOP, "unexpected word 'x.img': a file is named with -f: -f x.img"],
  ["-t loop -z x.img", LOOP, "unexpected word 'x.img': a file is named with -f: -f x.img"],
  ["-t loop -z 1", LOOP, "unexpected word '1'"],
  ["-t null x.img", NULL, "unexpected word 'x.img'"],
])("to '%s'", (line, table, message) => {
  expect(() => parseOptions(line.split(" "), table)).toThrow(new Error(message));
});
