/** src/control/launch.ts: what a daemon learns about whoever started it. */

import { expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { join } from "node:path";

const LAUNCH = join(import.meta.dir, "../../../src/control/launch.ts");

/** What a process says that answers on descriptor 3, with somebody at the other end or not. */
async function daemon(call: string, heard: boolean): Promise<string> {
  const source = `
    const launch = await import(${JSON.stringify(LAUNCH)});
    await Bun.stdin.text();
    try { console.log(String(launch.${call})); } catch (error) { console.log("threw " + error); }
  `;
  const child = Bun.spawn([process.execPath, "-e", source], {
    stdio: ["pipe", "pipe", "inherit", "pipe"],
  });
  if (!heard) closeSync(child.stdio[3] as number);
  child.stdin.end();
  const said = (await child.stdout.text()).trim();
  await child.exited;
  return said;
}

test("a daemon is told whether anybody heard that its device is live", async () => {
  expect(await daemon("answerLive(0)", true)).toBe("true");
  expect(await daemon("answerLive(0)", false)).toBe("false");
});

test("that nobody hears what it waits for, or why it failed, is no failure of its own", async () => {
  expect(await daemon('answerWaiting("for the driver")', false)).toBe("undefined");
  expect(await daemon('answerFailed(new Error("no"))', false)).toBe("undefined");
});

test("of a start nothing stays open, as whoever supervises starts many servers", async () => {
  const source = `
    import { openSync, readdirSync, readlinkSync } from "node:fs";
    const { launch } = await import(${JSON.stringify(LAUNCH)});
    const program = openSync("/bin/true", "r");
    const dir = "/proc/self/fd/";
    const links = () => readdirSync(dir).flatMap((fd) => {
      try { return [readlinkSync(dir + fd)]; } catch { return []; }
    });
    const plan = { target: "null", affinity: [] };
    const left = [];
    for (let round = 0; round < 6; round++) {
      await launch(plan, { program }).catch((error) => left.push(error.message));
      Bun.gc(true);
      await Bun.sleep(10);
      left.push(links().filter((link) => link.startsWith("socket:")).length);
    }
    console.log(JSON.stringify(left));
  `;
  const child = Bun.spawn([process.execPath, "-e", source], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const left = JSON.parse(await child.stdout.text()) as (string | number)[];
  expect(left[0]).toContain("ended with exit code 0 before it was ready");
  expect(left.at(-1)).toBeLessThanOrEqual(left[1] as number);
});
