/** Words that are wrong by a letter: what was probably meant. */

const WRONG_MAX = 2;

/** ": did you mean X?", or nothing when no candidate is near. */
export function didYouMean(word: string, candidates: readonly string[]): string {
  const near = candidates
    .map((candidate) => ({ candidate, wrong: lettersWrong(word, candidate) }))
    // Of a short word even one letter is a good part.
    .filter(({ candidate, wrong }) => wrong <= Math.min(WRONG_MAX, candidate.length / 3))
    .toSorted((one, other) => one.wrong - other.wrong);
  return near.length === 0 ? "" : `: did you mean ${near[0]!.candidate}?`;
}

/** Letters to add, leave out, change or swap with their neighbour (Damerau's distance). */
export function lettersWrong(one: string, other: string): number {
  let before: number[] = [];
  let row = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      const same = one[i - 1] === other[j - 1];
      let least = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1];
      if (swapped) least = Math.min(least, before[j - 2]! + 1);
      next.push(least);
    }
    before = row;
    row = next;
  }
  return row[other.length]!;
}
