/** Waiting with a bound. */

/**
 * Whether `work` succeeds within so many ms; its failure is thrown. No timer stays behind: a
 * program would not end before it.
 */
export async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => late.resolve(false), ms);
  try {
    return await Promise.race([work.then(() => true), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
