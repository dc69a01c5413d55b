// A receiver at /dev/log, in place of the log that the guest does not have.

import { join } from "node:path";
import type { Vm } from "./story.ts";

const RECEIVER = await Bun.file(join(import.meta.dir, "../receiver.ts")).text();
const TRIES = 300;
const PAUSE_MS = 100;

export class GuestLog {
  readonly #vm: Vm;
  readonly #text: () => string;

  private constructor(vm: Vm, text: () => string) {
    this.#vm = vm;
    this.#text = text;
  }

  /** At another path than the log's it hears what is told to a service manager. */
  static async start(vm: Vm, path = "/run/log"): Promise<GuestLog> {
    await vm.write("/tmp/receiver.ts", RECEIVER);
    const log = vm.start`BUN_BE_BUN=1 exec ublk run /tmp/receiver.ts ${path}`;
    await vm.sh`until test -S ${path}; do sleep 0.1; done`;
    if (path === "/run/log") await vm.sh`ln -sfn ${path} /dev/log`;
    return new GuestLog(vm, () => log.soFar().stdout);
  }

  /** What was heard so far, without priority, time and process id. */
  get lines(): string[] {
    const lines = this.#text().split("\n").slice(0, -1);
    return lines.map((line) => /^<\d+>.{15} ublk\[\d+\]: (.*)$/.exec(line)?.[1] ?? line);
  }

  /** Waits for a line that has these words, the `count`th of them; answers it. */
  async hears(words: string, count = 1): Promise<string> {
    for (let tries = 0; tries < TRIES; tries++) {
      const line = this.lines.filter((one) => one.includes(words))[count - 1];
      if (line !== undefined) return line;
      await Bun.sleep(PAUSE_MS);
    }
    throw new Error(`the log has no '${words}' but\n${this.lines.join("\n")}`);
  }

  async stop(): Promise<void> {
    await this.#vm.sh`rm /dev/log`;
  }
}
