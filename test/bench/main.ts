/** `bun run bench`: ublk against what one would take instead, in one guest, round by round. */

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir } from "../vm/cache.ts";
import { hostShown, note, toTerminal } from "../vm/host.ts";
import { measureAll } from "./measure.ts";
import { measureNative } from "./native.ts";
import type { Raw } from "./numbers.ts";
import { parseOptions, type Options, USAGE } from "./options.ts";
import { picture } from "./picture.ts";
import { report } from "./report.ts";
import { chosen, nameOf } from "./table.ts";

const PICTURE = "results.svg";

async function main(): Promise<number> {
  const words = process.argv.slice(2);
  const options = parseOptions(words);
  if (options === undefined) {
    console.log(USAGE);
    return 0;
  }
  if (options.list) return list(options);
  if (options.native) return native(options, words);
  const raw = options.from
    ? ((await Bun.file(options.from).json()) as Raw)
    : await measure(options, words);
  await write(raw, options);
  return 0;
}

function list({ quick, only }: Options): number {
  for (const section of chosen(quick, only)) {
    for (const contestant of section.contestants) {
      for (const id of contestant.workloads ?? []) {
        console.log(`${section.id}/${nameOf(contestant)}/${id}`);
      }
    }
  }
  return 0;
}

async function measure(options: Options, words: string[]): Promise<Raw> {
  await build(options);
  return measureAll(options, words);
}

async function native(options: Options, words: string[]): Promise<number> {
  await build(options);
  const text = await measureNative(options, words);
  const out = options.out ?? (isPartial(options) ? join(cacheDir, "bench") : import.meta.dir);
  await Bun.write(join(out, "NATIVE.md"), `${text}\n`);
  console.log(text);
  return 0;
}

const isPartial = ({ quick, only }: Options): boolean => quick || only !== undefined;

/** What is here is measured. */
async function build(options: Options): Promise<void> {
  const script = join(import.meta.dir, "../../build.ts");
  if (options.build) await hostShown([process.execPath, script]);
}

async function write(raw: Raw, options: Options): Promise<void> {
  const stamp = new Date().toISOString().replaceAll(/[:.]/g, "-");
  const kept = join(cacheDir, "bench", stamp);
  await mkdir(kept, { recursive: true });
  const out = options.out ?? (isPartial(options) ? kept : import.meta.dir);
  const text = report(raw, PICTURE);
  await Bun.write(join(out, "RESULTS.md"), `${text}\n`);
  await Bun.write(join(out, PICTURE), picture(raw));
  if (!options.from) await Bun.write(join(kept, "raw.json"), JSON.stringify(raw, undefined, 1));
  console.log(text);
  note(`report in ${out}${options.from ? "" : `, raw numbers in ${join(kept, "raw.json")}`}`);
}

await toTerminal(main);
