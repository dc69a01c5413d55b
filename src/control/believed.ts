/** What somebody says of a device that is to be served again, compared with what is noted of it. */

import { SysError } from "../../ffi/errno.ts";
import type { AnyTarget } from "../target/target.ts";
import type { RecoverPlan } from "./recover.ts";

/** Of nothing that was said, undefined; the file's path is absolute. */
export interface Believed {
  type: string | undefined;
  file: string | undefined;
}

type Noted = Pick<RecoverPlan, "id" | "how" | "target" | "config">;

/** The state file is right: who says otherwise may mean another device. */
export function refuseMistaken(plan: Noted, target: AnyTarget, { type, file }: Believed): void {
  if (type !== undefined && type !== plan.target) {
    throw mistaken(plan, `is of type '${plan.target}', not '${type}'`);
  }
  if (file === undefined) return;
  const [kept = "no file"] = target.files?.(plan.config) ?? [];
  if (kept !== file) throw mistaken(plan, `is kept in ${kept}, not in ${file}`);
}

function mistaken({ id, how }: Noted, reason: string): SysError {
  return new SysError({ op: how, errno: 0, subject: `device ${id}`, reason });
}
