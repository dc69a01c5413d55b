/** src/control/believed.ts: a device that is not what somebody takes it for is left alone. */

import { describe, expect, test } from "bun:test";
import { refuseMistaken, refuseUnlike } from "../../../src/control/believed.ts";
import type { AnyTarget, OptionValues } from "../../../src/target/target.ts";
import faultInject from "../../../targets/fault_inject/target.ts";
import loop from "../../../targets/loop.ts";
import nothing from "../../../targets/null.ts";
import { thrown } from "../../temp.ts";

const FILE = "/srv/a.img";
const DEVICE = { id: 3, how: "recover" } as const;
const LOOP = { ...DEVICE, target: "loop", config: loop.configure({ file: FILE }) };
const NULL = { ...DEVICE, target: "null", config: nothing.configure({}) };

test.each([
  [undefined, undefined],
  ["loop", undefined],
  [undefined, FILE],
  ["loop", FILE],
])("type %s and file %s are a loop device's", (type, file) => {
  refuseMistaken(LOOP, loop, { type, file });
});

describe("refused in one line:", () => {
  test.each([
    ["qcow2", FILE, "recover device 3: is of type 'loop', not 'qcow2'"],
    ["loop", "/srv/b.img", "recover device 3: is kept in /srv/a.img, not in /srv/b.img"],
  ])("type %s, file %s", (type, file, message) => {
    const error = thrown(() => refuseMistaken(LOOP, loop, { type, file }));
    expect(error).toMatchObject({ message, hint: undefined });
  });

  test("a file of a disk that has none", () => {
    const mistake = (): void => refuseMistaken(NULL, nothing, { type: "null", file: FILE });
    expect(mistake).toThrow("is kept in no file, not in /srv/a.img");
  });
});

describe("to --or-recover, a device that waits", () => {
  const made = (target: AnyTarget, values: OptionValues) => ({
    target: target.name,
    config: target.configure(values),
  });

  test.each([
    [loop, { file: FILE }, { file: FILE, "buffered-io": true }],
    [loop, { file: FILE, offset: "8" }, { file: FILE, offset: "4K" }],
    [nothing, { size: "2G" }, { size: "1G", "no-fill": true }],
    [faultInject, { file: FILE }, { file: FILE, "error-rate": "1%" }],
  ] as [AnyTarget, OptionValues, OptionValues][])(
    "is the one that was typed, whatever else differs: %#",
    (target, was, typed) => {
      refuseUnlike({ ...DEVICE, ...made(target, was) }, target, made(target, typed));
    },
  );

  test("is so, too, where an older version noted less", () => {
    const noted = { ...DEVICE, target: "null", config: { size: 2 ** 30, fill: true } };
    refuseUnlike(noted, nothing, made(nothing, {}));
  });

  test.each([
    [loop, { file: FILE }, nothing, {}, "is of type 'loop', not 'null'"],
    [loop, { file: FILE }, loop, { file: "/b" }, `is kept in ${FILE}, not in /b`],
    [faultInject, { file: FILE }, faultInject, {}, `is kept in ${FILE}, not in no file`],
    [faultInject, {}, faultInject, { file: FILE }, `is kept in no file, not in ${FILE}`],
    [loop, { file: FILE }, loop, { file: FILE, offset: "8" }, "was made with offset 0, not 4096"],
    [nothing, { "read-only": true }, nothing, {}, "was made with read_only true, not false"],
  ] as [AnyTarget, OptionValues, AnyTarget, OptionValues, string][])(
    "is another one: %#",
    (before, was, target, typed, reason) => {
      const waiting = { ...DEVICE, ...made(before, was) };
      const error = thrown(() => refuseUnlike(waiting, target, made(target, typed)));
      expect(error).toMatchObject({
        message: `recover device 3: ${reason}`,
        hint: "ublk recover -n 3 serves it as it was; ublk del -n 3 ends it",
      });
    },
  );
});
