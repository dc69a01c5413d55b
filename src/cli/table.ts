/** Columns of text, and numbers as people read them. */

const UNIT = 1024;

/** Cells in columns; those whose heading begins with ">" are set to the right. */
export function columns(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const right = heading.map((word) => word.startsWith(">"));
  const all = [heading.map((word) => word.replace(/^>/, "")), ...rows];
  const widths = heading.map((_, at) => Math.max(...all.map((row) => row[at]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, at) => (right[at] ? cell.padStart(widths[at]!) : cell.padEnd(widths[at]!)))
      .join("  ")
      .trimEnd();
  return all.map((row) => `${line(row)}\n`).join("");
}

/** 4096 is "4K"; three digits say enough. */
export function bytes(count: number): string {
  const units = ["", "K", "M", "G", "T", "P"];
  let unit = 0;
  for (; count >= UNIT && unit < units.length - 1; unit++) count /= UNIT;
  return `${short(count)}${units[unit]}`;
}

/** 1234567 is "1.2M", 12 is "12". */
export function amount(count: number): string {
  if (count < 10_000) return short(count);
  return count < 1e6 ? `${short(count / 1e3)}k` : `${short(count / 1e6)}M`;
}

/** Microseconds: "85us", "1.2ms", "3s". */
export function duration(us: number): string {
  if (us < 1000) return `${short(us)}us`;
  return us < 1e6 ? `${short(us / 1e3)}ms` : `${short(us / 1e6)}s`;
}

const short = (value: number): string =>
  value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
