// bun run vm: runs stories, or a command or a shell, in the laboratory.

import { join } from "node:path";
import { Guest } from "./guest.ts";
import { prepareKernel } from "./kernel.ts";
import { note } from "./host.ts";

const t0 = performance.now();
const kernel = await prepareKernel(process.argv[process.argv.indexOf("--kernel") + 1] ?? "7.2");
if ("missing" in kernel) throw new Error(kernel.missing);
const guest = await Guest.boot(kernel, join(import.meta.dir, "../../dist/ublk"));
note(`booted after ${(performance.now() - t0).toFixed(0)} ms`);
const sent = await guest.send(process.argv.at(-1)!, {
  stdout: (b) => void process.stdout.write(b),
  stderr: (b) => void process.stderr.write(b),
});
const r = await sent.result;
await guest.close();
process.exit(r.status);
