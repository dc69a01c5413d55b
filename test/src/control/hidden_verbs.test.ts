/** src/control/hidden_verbs.ts: a plan goes behind its verb, however many queues it has. */

import { expect, test } from "bun:test";
import type { DaemonPlan } from "../../../src/control/daemon.ts";
import { isStartedByUs, planOf, wordOf } from "../../../src/control/hidden_verbs.ts";
import { thrown } from "../../temp.ts";

const planWith = (affinity: (number[] | null)[]) => ({ target: "null", affinity }) as DaemonPlan;
const ALL = Array.from({ length: 256 }, (_, cpu) => cpu);

test.each([
  ["no sets", []],
  ["sets, of some queues", [[0, 1, 2], null, [7]]],
  ["many CPUs for each of the most queues", Array<number[]>(4096).fill(ALL)],
])("a plan with %s is heard as it was said", (_, affinity) => {
  const word = wordOf(planWith(affinity));
  expect(word.length).toBeLessThan(1 << 17);
  expect(planOf(word)).toEqual(planWith(affinity));
  expect(isStartedByUs(["daemon", word])).toBe(true);
});

test("sets that no command line holds are refused in one line", () => {
  const odd = ALL.filter((cpu) => cpu % 2 === 1);
  const refusal = thrown(() => wordOf(planWith(Array<number[]>(4096).fill(odd))));
  expect(String(refusal)).toContain("--queue-affinity: its sets do not fit into a command line");
});
