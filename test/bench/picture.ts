/** The results as bars, in an SVG file that can be read on light and on dark. */

import { digits, type Raw, speedOf, type Spread } from "./numbers.ts";
import { perSecond } from "./report.ts";
import { type Section, SECTIONS, WORKLOADS } from "./table.ts";

const LABELS = 190;
const COLUMN = 150;
const BAR = 100;
const ROW = 18;
const HEAD = 52;

/** Colours that stand out from white and from black; text follows the reader's choice. */
const STYLE = `
  text { font: 11px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 14px; font-weight: 600 }
  .ublk { fill: #2f81f7 } .kublk { fill: #d98324 } .kernel { fill: #8b949e }
  .range { stroke: #24292f; stroke-width: 1 }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .range { stroke: #e6edf3 } }`;

export function picture(raw: Raw): string {
  const sections = SECTIONS.filter(({ id }) => raw.cells.some(({ section }) => section === id));
  let top = 0;
  let columns = 1;
  const parts: string[] = [];
  for (const section of sections) {
    const drawn = drawSection(raw, section, top);
    parts.push(...drawn.parts);
    top += drawn.height;
    columns = Math.max(columns, drawn.columns);
  }
  const size = `width="${LABELS + columns * COLUMN}" height="${top}"`;
  const title = "<title>Speed of ublk, kublk and the kernel's own devices</title>";
  const head = `<svg xmlns="http://www.w3.org/2000/svg" ${size}>`;
  return [head, title, `<style>${STYLE}\n</style>`, ...parts, "</svg>\n"].join("\n");
}

function drawSection(raw: Raw, section: Section, top: number) {
  const cells = raw.cells.filter((one) => one.section === section.id);
  const names = [...new Set(cells.map(({ contestant }) => contestant))];
  const workloads = WORKLOADS.filter(({ id }) => cells.some(({ workload }) => workload === id));
  const parts = [text(4, top + 20, section.title, "title")];
  for (const [at, name] of names.entries()) parts.push(text(4, top + HEAD + at * ROW + 12, name));
  for (const [at, { id, title }] of workloads.entries()) {
    const left = LABELS + at * COLUMN;
    const factor = perSecond(id);
    const unit = factor < 1 / 100 ? "thousands/s" : "MiB/s";
    const [what = "", depth = ""] = title.split(", ");
    parts.push(text(left, top + 34, what), text(left, top + 46, `${depth}, ${unit}`));
    const found = names.map((contestant) =>
      speedOf(cells, { section: section.id, contestant, workload: id }),
    );
    const most = Math.max(...found.map((one) => one?.max ?? 0), 1e-9);
    for (const [row, one] of found.entries()) {
      if (!one) continue;
      const kind = familyOf(names[row] ?? "");
      parts.push(
        ...bar(one, { left, top: top + HEAD + row * ROW, kind, scale: BAR / most, factor }),
      );
    }
  }
  return { parts, height: HEAD + names.length * ROW + 12, columns: workloads.length };
}

function familyOf(name: string): "ublk" | "kublk" | "kernel" {
  if (name.startsWith("ublk ")) return "ublk";
  return name.startsWith("kublk ") ? "kublk" : "kernel";
}

interface Place {
  left: number;
  top: number;
  kind: string;
  scale: number;
  factor: number;
}

/** The median as a bar, the range as a line over it, the number behind both. */
function bar({ median, min, max }: Spread, place: Place): string[] {
  const { left, top, kind, scale, factor } = place;
  const x = (value: number) => (left + value * scale).toFixed(1);
  const width = (median * scale).toFixed(1);
  const y = top + 8;
  return [
    `<rect class="${kind}" x="${left}" y="${top + 2}" width="${width}" height="12"/>`,
    `<path class="range" d="M${x(min)} ${y}H${x(max)}"/>`,
    text(Number(x(max)) + 4, top + 12, digits(median * factor)),
  ];
}

function text(x: number, y: number, words: string, kind?: string): string {
  const safe = words.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text${kind ? ` class="${kind}"` : ""} x="${x.toFixed(1)}" y="${y}">${safe}</text>`;
}
