/** What the verbs have in common that are about an image and not about a device. */

import { absolutePath, UsageError } from "../target/parse.ts";
import type { ImageTools, OptionValues, TargetRegistry } from "../target/target.ts";
import { type OptionTable, parseOptions } from "./options.ts";

export interface ImageArgument {
  /** Absolute. */
  path: string;
  values: OptionValues;
}

/** `FILE` may stand anywhere among the options, and behind "--" begin with a hyphen. */
export function imageArgument(verb: string, argv: string[], table: OptionTable): ImageArgument {
  const words: string[] = [];
  const options: string[] = [];
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at]!;
    if (word === "--") {
      words.push(...argv.slice(at + 1));
      break;
    }
    if (!word.startsWith("-") || word === "-") {
      words.push(word);
      continue;
    }
    options.push(word);
    const takes = Object.entries(table).some(
      ([name, def]) => def.type === "string" && (word === `--${name}` || word === `-${def.alias}`),
    );
    if (takes && at + 1 < argv.length) options.push(argv[++at]!);
  }
  const values = parseOptions(options, table);
  const [path, ...more] = words;
  if (path === undefined) throw new UsageError(`which image? ublk ${verb} FILE`);
  if (more.length > 0) throw new UsageError(`unexpected word '${more[0]}': one image at a time`);
  return { path: absolutePath("FILE", path), values };
}

/** Of the one target whose images have a format. */
export async function imageTools(targets: TargetRegistry): Promise<ImageTools> {
  for (const load of Object.values(targets)) {
    const tools = await (await load()).tools?.();
    if (tools !== undefined) return tools;
  }
  throw new UsageError("no target of this build knows image formats");
}
