/** The guest that everything is measured in, prepared; booted anew when a contestant broke it. */

import { splat } from "../vm/checks.ts";
import type { GuestVm } from "../vm/guest_vm.ts";
import { LabError, note } from "../vm/host.ts";
import { type Kernel, prepareKernel } from "../vm/kernel.ts";
import { kvmWorks } from "../vm/kvm.ts";
import { guestMachine } from "../vm/machines.ts";
import { buildKublk, type Kublk } from "./kublk.ts";
import { KUBLK, makeImage } from "./servers.ts";
import { raw } from "../vm/quote.ts";
import { FILE_MIB, type Image, type Section, TMPFS } from "./table.ts";

/** Room for the file on tmpfs and for many daemons. */
const MEMORY_MIB = 6144;
/** Longer than anything takes that does not hang, on a busy machine too. */
const PATIENCE_SECONDS = 90;

export class BenchGuest {
  readonly kernel: Kernel;
  readonly kvm: boolean;
  readonly kublk: Kublk | { missing: string };
  readonly #files: readonly string[];
  readonly #images: readonly Image[];
  #vm: GuestVm | undefined;

  private constructor(
    kernel: Kernel,
    kvm: boolean,
    kublk: Kublk | { missing: string },
    sections: readonly Section[],
  ) {
    this.kernel = kernel;
    this.kvm = kvm;
    this.kublk = kublk;
    const files = sections.flatMap(({ file }) => (file === undefined ? [] : [file]));
    this.#files = [...new Set(files)];
    this.#images = sections.flatMap(({ image }) => (image === undefined ? [] : [image]));
  }

  static async prepare(line: string, sections: Section[]): Promise<BenchGuest> {
    const kernel = await prepareKernel(line);
    if ("missing" in kernel) throw new LabError(kernel.missing);
    const kublk = await buildKublk(line);
    if ("missing" in kublk) note(`kublk cannot be built: ${kublk.missing}`);
    return new BenchGuest(kernel, await kvmWorks(kernel), kublk, sections);
  }

  /** Running, with kublk in it and the backing files written. */
  async vm(): Promise<GuestVm> {
    if (this.#vm) return this.#vm;
    const { open } = await guestMachine(this.kernel);
    const vm = await open(MEMORY_MIB);
    this.#vm = vm;
    vm.patience = PATIENCE_SECONDS;
    if ("program" in this.kublk) {
      await vm.write(KUBLK, await Bun.file(this.kublk.program).bytes());
      await vm.sh`chmod +x ${KUBLK}`;
    }
    // The first who starts would be the one who reads programs from the disk.
    await vm.sh`ublk add -t null > /dev/null && ublk del -a; fio --version; losetup --version`;
    await vm.sh`modprobe loop; mkdir -p ${TMPFS} && mount -t tmpfs bench ${TMPFS}`;
    for (const file of this.#files) {
      // Written, not only made large: first writes to a hole would be another measurement.
      await vm.sh`dd if=/dev/zero of=${file} bs=1M count=${FILE_MIB} conv=fsync status=none`;
    }
    for (const image of this.#images.filter(({ fresh }) => !fresh)) {
      await vm.sh`${raw(makeImage(image))} && sync ${image.path} && qemu-nbd --version`;
    }
    return vm;
  }

  /** What the kernel complained about so far, if it did. */
  async complaint(): Promise<string | undefined> {
    if (!this.#vm) return undefined;
    const { stdout } = await this.#vm.harness("dmesg");
    return splat(stdout)?.split("\n")[0];
  }

  /** The next `vm()` is a fresh one. */
  async discard(): Promise<void> {
    await this.#vm?.close();
    this.#vm = undefined;
  }
}
