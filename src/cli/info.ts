/** `ublk info`: what an image is, and what it stands on. */

import { type CommandDef, defineCommand } from "citty";
import type { TargetRegistry } from "../target/target.ts";
import { imageArgument, imageTools } from "./image.ts";
import { cittyArgs, JSON_OPTION, type OptionTable } from "./options.ts";
import { print } from "./print.ts";

const OPTIONS: OptionTable = { json: JSON_OPTION };

export function infoCommand(targets: TargetRegistry): CommandDef {
  return defineCommand({
    meta: { name: "info", description: "show what an image is, with its backing files" },
    args: cittyArgs(OPTIONS),
    async run({ rawArgs }) {
      const { path, values } = imageArgument("info", rawArgs, OPTIONS);
      const { images } = (await imageTools(targets)).info(path);
      if (values["json"] === true) print(`${JSON.stringify(images)}\n`);
      else print(images.map(block).join("\n"));
    },
  });
}

function block(facts: Record<string, unknown>): string {
  const lines = Object.entries(facts).map(([name, value]) => {
    if (value === undefined) return "";
    const text = Array.isArray(value) ? list(value) : ` ${show(name, value)}`;
    return `${words(name)}:${text}\n`;
  });
  return lines.join("");
}

const words = (name: string): string => name.replaceAll("_", " ");

/** Snapshots and bitmaps, a line each. */
function list(values: Record<string, unknown>[]): string {
  if (values.length === 0) return " none";
  return values.map((value) => `\n    ${Object.entries(value).map(item).join(", ")}`).join("");
}

/** Text in quotes: a name may have commas in it, and worse. */
function item([name, value]: [string, unknown]): string {
  const text = typeof value === "string" ? JSON.stringify(value) : show(name, value);
  return `${words(name)} ${Array.isArray(value) ? value.join(" ") || "none" : text}`;
}

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const UNIT = 1024;

/** Sizes also in words that can be taken in at a glance. */
function show(name: string, value: unknown): string {
  if (!name.endsWith("_size") || typeof value !== "number" || value < UNIT) return String(value);
  const unit = Math.floor(Math.log2(value) / 10);
  const count = value / UNIT ** unit;
  return `${Number.isInteger(count) ? count : count.toPrecision(3)} ${UNITS[unit]} (${value} bytes)`;
}
