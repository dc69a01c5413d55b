/** src/control/affinity.ts: a thread is not promised CPUs that are not there. */

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { refuseOffline } from "../../../src/control/affinity.ts";
import { tempFolder, thrown } from "../../temp.ts";

const path = tempFolder();

test("a set needs one CPU that is on line", () => {
  const online = path("online");
  writeFileSync(online, "0-1,4\n");
  refuseOffline([], online);
  refuseOffline([[0], [4, 5]], online);
  const refusal = thrown(() => refuseOffline([[0], [2, 3]], online));
  expect(String(refusal)).toContain("--queue-affinity 2,3: none of these CPUs is on line");
});

test("where nothing is known, nothing is refused", () => {
  expect(() => refuseOffline([[4095]], path("missing"))).not.toThrow();
});
