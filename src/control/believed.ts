/** What somebody says of a device that is to be served again, compared with what is noted of it. */

import { SysError } from "../../ffi/errno.ts";
import type { AnyTarget } from "../target/target.ts";
import type { RecoverPlan } from "./recover.ts";

/** Of nothing that was said, undefined; the file's path is absolute. */
export interface Believed {
  type: string | undefined;
  file: string | undefined;
}

/** Of a disk that is kept in none. */
const NO_FILE = "no file";

type Noted = Pick<RecoverPlan, "id" | "how" | "target" | "config">;

/** The state file is right: who says otherwise may mean another device. */
export function refuseMistaken(
  plan: Noted,
  target: AnyTarget,
  { type, file }: Believed,
  hint?: string,
): void {
  if (type !== undefined && type !== plan.target) {
    throw mistaken(plan, `is of type '${plan.target}', not '${type}'`, hint);
  }
  if (file === undefined) return;
  const [kept = NO_FILE] = target.files?.(plan.config) ?? [];
  if (kept !== file) throw mistaken(plan, `is kept in ${kept}, not in ${file}`, hint);
}

/** What else of a configuration is the disk; what it is when it is not said. */
const ABSENT = { read_only: false, offset: 0 } as const;

/**
 * The same for a whole command line, `wish`: the device that waits is to be the one that was to be
 * added. All else may differ: another server serves it as it was.
 */
export function refuseUnlike(
  waiting: Noted,
  target: AnyTarget,
  wish: { target: string; config: unknown },
): void {
  const { id } = waiting;
  const hint = `ublk recover -n ${id} serves it as it was; ublk del -n ${id} ends it`;
  refuseMistaken(waiting, target, { type: wish.target, file: undefined }, hint);
  const [file = NO_FILE] = target.files?.(wish.config) ?? [];
  refuseMistaken(waiting, target, { type: undefined, file }, hint);
  for (const name of ["read_only", "offset"] as const) {
    const [was, is] = [waiting, wish].map(({ config }) => settingOf(config, name));
    if (was !== is) throw mistaken(waiting, `was made with ${name} ${was}, not ${is}`, hint);
  }
}

const settingOf = (config: unknown, name: keyof typeof ABSENT): unknown =>
  (config as Record<string, unknown>)[name] ?? ABSENT[name];

function mistaken({ id, how }: Noted, reason: string, hint?: string): SysError {
  const facts = { op: how, errno: 0, subject: `device ${id}`, reason };
  return new SysError(hint === undefined ? facts : { ...facts, hint });
}
