/** src/control/believed.ts: a device that is not what somebody takes it for is left alone. */

import { describe, expect, test } from "bun:test";
import { refuseMistaken } from "../../../src/control/believed.ts";
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
