/** What a state file must look like to be believed: each field, before anybody uses it. */

import { LOG_LEVELS } from "./log.ts";

type Fields = Record<string, unknown>;

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isCounts = (value: unknown): boolean => Array.isArray(value) && value.every(isCount);
const isScalar = (value: unknown): boolean =>
  ["string", "number", "boolean"].includes(typeof value);

/** As same_files.ts writes them; of 64 bits, a number may come with a sign. */
const isFile = (value: unknown): boolean =>
  typeof value === "string" && /^(?:block|(?:file|passing) -?\d+) -?\d+$/.test(value);

const isServing = (value: unknown): boolean =>
  isFields(value) &&
  isCount(value["zeroCopyMin"]) &&
  isCount(value["pollUs"]) &&
  isCount(value["threads"]) &&
  isLimits(value["limits"]) &&
  LOG_LEVELS.some((level) => level === value["logLevel"]);

const isLimits = (value: unknown): boolean =>
  isFields(value) &&
  [value["logicalBlock"], value["physicalBlock"]].every(
    (size) => size === undefined || isCount(size),
  ) &&
  (value["rotational"] === undefined || typeof value["rotational"] === "boolean");

/** Field by field; `config` is its target's to judge. */
const CHECKS: Record<string, (value: unknown) => boolean> = {
  target: (value) =>
    isFields(value) && typeof value["name"] === "string" && isFields(value["config"]),
  serving: isServing,
  report: (value) => isFields(value) && Object.values(value).every(isScalar),
  tids: (value) => Array.isArray(value) && value.every(isCounts),
  files: (value) => value === undefined || (Array.isArray(value) && value.every(isFile)),
  affinity: (value) =>
    Array.isArray(value) && value.every((cpus) => cpus === null || isCounts(cpus)),
};

/** Why `value` is no state of device `id`; undefined when it is one. */
export function whyNoState(value: unknown, id: number, schema: number): string | undefined {
  if (!isFields(value)) return "is no JSON object";
  if (value["schema"] !== schema)
    return `has schema ${JSON.stringify(value["schema"])}, not ${schema}`;
  if (value["dev_id"] !== id) return `speaks of device ${JSON.stringify(value["dev_id"])}`;
  const bad = Object.entries(CHECKS).find(([name, check]) => !check(value[name]));
  return bad === undefined ? undefined : `has no sound "${bad[0]}"`;
}
