// Starts QEMU with the guest's disks and serial ports; it ends with the process that started it.

import { type ChildProcess, spawn } from "node:child_process";
import type { Duplex } from "node:stream";

export interface Disks {
  root: string;
  program: string;
  data: string;
  spare: string;
}

export interface QemuOptions {
  vmlinux: string;
  disks: Disks;
  memory: number;
  cpus: number;
  kvm: boolean;
  ports: number;
}

/** Of the guest's console this much is kept, for the report of a failure. */
const CONSOLE_KEPT = 256 * 1024;
const FIRST_PORT_FD = 3;

const KERNEL_ARGUMENTS = [
  // The disk that the kernel can mount without any module, so that no initrd is needed.
  ...["root=/dev/nvme0n1", "rootfstype=ext4", "rw", "rootwait", "init=/lab/init"],
  ...["console=ttyS0", "quiet", "loglevel=4", "panic=-1", "oops=panic", "net.ifnames=0"],
  ...["mitigations=off", "tsc=reliable", "no_timer_check", "random.trust_cpu=on"],
  ...["cryptomgr.notests", "audit=0", "apparmor=0", "init_on_alloc=0", "nmi_watchdog=0"],
  ...["lpj=10000000"],
  // A busy host may keep a processor of the guest waiting for long; a deadlock waits longer.
  ...["rcupdate.rcu_cpu_stall_timeout=120", "watchdog_thresh=60"],
  ...["maxcpus=1", "noreplace-smp"], // guest/init brings the others up, and says why so late
];

function machine(kvm: boolean): string[] {
  // Under emulation: AVX2, which Bun wants, but none of what only costs time there.
  const emulation = [
    "tcg,thread=multi,tb-size=512",
    "max,cx16=off,la57=off,smap=off,smep=off",
  ] as const;
  const [accelerator, cpu] = kvm ? (["kvm", "host"] as const) : emulation;
  return ["-accel", accelerator, "-cpu", cpu, "-machine", "q35", "-nodefaults", "-no-reboot"];
}

function drives({ root, program, data, spare }: Disks): string[] {
  const drive = (id: string, file: string, more: string) => [
    "-drive",
    `id=${id},file=${file},format=raw,if=none,cache=unsafe,${more}`,
  ];
  const virtio = (id: string) => ["-device", `virtio-blk-pci,drive=${id},serial=${id}`];
  return [
    ...drive("root", root, "snapshot=on"),
    ...["-device", "nvme,drive=root,serial=root"],
    ...[...drive("program", program, "readonly=on"), ...virtio("program")],
    ...[...drive("data", data, "discard=unmap"), ...virtio("data")],
    ...[...drive("spare", spare, "discard=unmap"), ...virtio("spare")],
  ];
}

function serialPorts(count: number): string[] {
  const all = ["-device", "virtio-serial-pci"];
  for (let port = 1; port <= count; port++) {
    const fd = FIRST_PORT_FD + port - 1;
    all.push("-chardev", `socket,id=port${port},fd=${fd}`);
    all.push("-device", `virtserialport,chardev=port${port},nr=${port}`);
  }
  return all;
}

function qemuCommand(options: QemuOptions): string[] {
  return [
    // Nobody else ends QEMU when this process is killed.
    ...["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"],
    ...machine(options.kvm),
    ...["-display", "none", "-smp", String(options.cpus), "-m", String(options.memory)],
    ...["-kernel", options.vmlinux, "-append", KERNEL_ARGUMENTS.join(" ")],
    ...["-serial", "stdio"],
    ...drives(options.disks),
    ...serialPorts(options.ports),
  ];
}

/** A running QEMU: its serial ports, its console, its end. */
export class Qemu {
  readonly ports: Duplex[];
  readonly ended: Promise<string>;
  readonly child: ChildProcess;
  #console = "";
  #kill = () => void this.child.kill("SIGKILL");

  constructor(options: QemuOptions) {
    const [program = "", ...args] = qemuCommand(options);
    const pipes = Array.from({ length: options.ports }, () => "pipe" as const);
    this.child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe", ...pipes] });
    this.ports = this.child.stdio.slice(FIRST_PORT_FD) as Duplex[];
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on("data", (bytes: Buffer) => {
        this.#console = (this.#console + bytes.toString()).slice(-CONSOLE_KEPT);
      });
    }
    for (const port of this.ports) port.on("error", () => undefined); // `ended` tells it better
    process.once("exit", this.#kill);
    this.ended = new Promise((resolve) => {
      this.child.once("error", (error) => resolve(error.message));
      this.child.once("close", (code, signal) => resolve(signal ?? `exit status ${code}`));
    });
    void this.ended.then(() => process.off("exit", this.#kill));
  }

  /** What the guest's kernel and QEMU itself have said so far. */
  get console(): string {
    return this.#console;
  }

  async kill(): Promise<void> {
    this.#kill();
    await this.ended;
  }
}
