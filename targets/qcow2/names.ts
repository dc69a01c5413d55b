/** Names that an image brings along, and that are shown to people. */

/** Fit for a line of ours, whatever it is: in a message about what cannot be taken. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?");
}

/** Nothing in a name may drive a terminal or look like another line. */
export function hasControls(name: string): boolean {
  return [...name].some((letter) => letter < " " || letter === "\x7f");
}

/** Some writers count the NUL that ends a name as part of it. */
export function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).replace(/\0+$/, "");
}
