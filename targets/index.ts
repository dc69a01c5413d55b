/** Every target of the executable, loaded when it is asked for. */

import type { AnyTarget, TargetRegistry } from "../src/target/target.ts";

export const targets: TargetRegistry = {
  null: async () => (await import("./null.ts")).default as AnyTarget,
  loop: async () => (await import("./loop.ts")).default as AnyTarget,
  qcow2: async () => (await import("./qcow2/target.ts")).default as AnyTarget,
  fault_inject: async () => (await import("./fault_inject/target.ts")).default as AnyTarget,
};
