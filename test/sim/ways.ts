/** Every way in which bytes and commands can travel, for stories that go through all of them. */

import type { Way } from "./world.ts";

const MODES: [name: string, way: Way][] = [
  ["copy", { mode: "copy" }],
  ["user copy", { mode: "user-copy" }],
  ["zero copy", { mode: "zero-copy", userCopy: true }],
  ["zero copy of what is large", { mode: "zero-copy", userCopy: true, zeroCopyMin: 8192 }],
  ["automatic zero copy", { mode: "auto-zero-copy" }],
  ["automatic zero copy beside user copy", { mode: "auto-zero-copy", userCopy: true }],
];

/** Batch commands have no NEED_GET_DATA. */
export const WAYS: [name: string, way: Way][] = [
  ...MODES,
  ["need get data", { mode: "get-data" }],
  ["copy, each queue in parts", { mode: "copy", parts: 3 }],
  ["automatic zero copy, each queue in parts", { mode: "auto-zero-copy", parts: 2 }],
  ...MODES.map(([name, way]): [string, Way] => [`${name}, in batches`, { ...way, batch: true }]),
];
