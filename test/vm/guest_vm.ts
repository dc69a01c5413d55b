// The Vm of a story that runs in an emulated guest.

import { Guest, type GuestOptions } from "./guest.ts";
import type { Kernel } from "./kernel.ts";
import type { Output, Result, Sent } from "./lane.ts";
import { MachineError, Vm } from "./vm.ts";

export class GuestVm extends Vm {
  readonly kernel: string;
  readonly data = "/data";
  readonly spare = "/dev/vdc";
  readonly #guest: Guest;

  private constructor(kernel: string, guest: Guest) {
    super();
    this.kernel = kernel;
    this.#guest = guest;
  }

  static async boot(kernel: Kernel, program: string, options?: GuestOptions): Promise<GuestVm> {
    return new GuestVm(kernel.line, await Guest.boot(kernel, program, options));
  }

  /** The same guest for another story, which begins with nothing of the first. */
  forAnother(): GuestVm {
    return new GuestVm(this.kernel, this.#guest);
  }

  protected override send(text: string, live: Output): Promise<Sent> {
    return this.#guest.send(text, live);
  }

  override async harness(text: string): Promise<Result> {
    const gone = this.ended.then((why) => {
      throw new MachineError(`the guest ended: ${why}`);
    });
    const answer = this.#guest.sendFirst(text).then((sent) => sent.result);
    return Promise.race([answer, gone]);
  }

  protected override get ended(): Promise<string> {
    const guest = this.#guest;
    return guest.ended.then((why) => `${why}\n${guest.console.slice(-4000)}`);
  }

  /** Whoever sits at our terminal gets a shell on the guest's console. */
  async shell(): Promise<number> {
    const { columns, rows } = process.stdout;
    const size = columns ? `stty columns ${columns} rows ${rows};` : "";
    const tty = "</dev/ttyS0 >/dev/ttyS0 2>&1";
    const ended = this.run(`(${size} TERM=linux exec setsid --ctty --wait bash -i) ${tty}`);
    const detach = this.#guest.attach(process.stdin, process.stdout);
    try {
      return (await ended).status;
    } finally {
      detach();
    }
  }

  override pullThePlug(): Promise<void> {
    return this.#guest.kill();
  }

  override reboot(): Promise<void> {
    return this.#guest.start();
  }

  override close(): Promise<void> {
    return this.#guest.close();
  }
}
