// hot
/**
 * The meaning of user_data, which comes back with a completion.
 *
 * The low word is the slot; the high word is the kind (4 bits) and the bytes expected (28 bits; a
 * request is 32 MiB at the most).
 */

export const KIND_COMMAND = 0;
export const KIND_TARGET = 1;
export const KIND_REGISTER = 2;
export const KIND_UNREGISTER = 3;
/** From another thread, see message.ts. */
export const KIND_RESIZE = 4;
/** A wait is over. */
export const KIND_WAIT = 5;
const KIND_SHIFT = 28;
const EXPECTED_MASK = (1 << KIND_SHIFT) - 1;

export function kindOf(meta: number): number {
  return meta >>> KIND_SHIFT;
}

export function expectedOf(meta: number): number {
  return meta & EXPECTED_MASK;
}

export function userMeta(kind: number, expected: number): number {
  return (kind << KIND_SHIFT) | expected;
}
