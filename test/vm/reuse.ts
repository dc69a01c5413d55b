// A guest tells story after story for as long as it looks as it did when it had booted.

import type { GuestVm } from "./guest_vm.ts";
import { note } from "./host.ts";
import type { Lent } from "./machines.ts";

/** Takes away what stories are free to leave, by means of bash where that is quick. Of guests! */
const TIDY = `
shopt -s nullglob extglob dotglob
rm -rf /data/!(lost+found) /tmp/* /dev/shm/* ~/* /run/ublk /mnt/*/
while read -r module _; do
  [[ $module == @(loop|null_blk|brd|zram|nbd|scsi_debug) ]] && rmmod "$module"
done < /proc/modules
test -c /dev/ublk-control || modprobe ublk_drv
blkdiscard --force /dev/vdc
fstrim /data
dmesg --clear`;

/** One line for each thing in which a guest may differ from one that has just booted. */
const LOOK = `
shopt -s nullglob extglob dotglob
while read -r _ where kind how _; do echo "mount $where $kind $how"; done < /proc/mounts
for file in /sys/block/* /data/* /tmp/* /dev/shm/* ~/* /mnt/* /run/* /dev/ublk*; do
  echo "$file"
done
for process in /proc/[1-9]*; do
  { read -r -d '' program < $process/cmdline; } 2> /dev/null || continue
  [[ $program == @(*/|)@(bash|cat|systemd-udevd|\\(udev-worker\\)) ]] || echo "process $program"
done
kernel=/proc/sys/kernel
for fact in $kernel/random/boot_id $kernel/printk $kernel/io_uring_disabled /proc/swaps \\
  /sys/devices/system/cpu/online /sys/module/ublk_drv/parameters/*; do
  [[ -r $fact ]] && echo "$fact $(< $fact)"
done
true`;

/** The guest of one kernel, kept for the next story where that may be. */
export class ReusedGuest {
  readonly #boot: () => Promise<GuestVm>;
  #kept: GuestVm | undefined;
  #look: string[] = [];

  constructor(boot: () => Promise<GuestVm>) {
    this.#boot = boot;
  }

  async lend(): Promise<Lent> {
    const vm = this.#kept?.forAnother() ?? (await this.#fresh());
    this.#kept = undefined;
    const giveBack = async (clean: boolean): Promise<void> => {
      if (clean && (await this.#isAsBooted(vm))) this.#kept = vm;
      else await vm.close();
    };
    return { vm, giveBack };
  }

  async #fresh(): Promise<GuestVm> {
    const vm = await this.#boot();
    this.#look = await look(vm);
    return vm;
  }

  async #isAsBooted(vm: GuestVm): Promise<boolean> {
    try {
      await vm.harness(TIDY);
      const now = await look(vm);
      const other = [...difference(now, this.#look), ...difference(this.#look, now)];
      if (other.length > 0)
        note(`the next story gets a new guest: ${other.slice(0, 3).join(", ")}`);
      return other.length === 0;
    } catch {
      return false; // its plug was pulled, for example
    }
  }
}

const difference = (all: string[], known: string[]) => all.filter((one) => !known.includes(one));

async function look(vm: GuestVm): Promise<string[]> {
  return (await vm.harness(LOOK)).stdout.split("\n");
}
