// Turns a tagged template into one shell script in which every argument is exactly one word.

export type Word = string | number | Raw;
export type Argument = Word | readonly Word[];

/** Script text that is meant to be read by the shell, not quoted. */
export class Raw {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export const raw = (text: string) => new Raw(text);

/** One word for a POSIX shell: plain where that is safe, in single quotes otherwise. */
export function quote(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function expand(argument: Argument): string {
  if (argument instanceof Raw) return argument.text;
  if (typeof argument === "string") return quote(argument);
  if (typeof argument === "number") return String(argument);
  return argument.map(expand).join(" ");
}

/** Backslashes reach the shell as they are written; an array becomes several words. */
export function script(text: TemplateStringsArray | string, ...args: Argument[]): string {
  if (typeof text === "string") return text;
  let result = text.raw[0] ?? "";
  for (const [index, argument] of args.entries()) {
    result += expand(argument) + (text.raw[index + 1] ?? "");
  }
  return result;
}
