/**
 * Every verb: how it is loaded, what words it takes besides options, and examples of it. Help, the
 * manual, completion and their tests go through this table.
 */

import type { CommandDef } from "citty";
import type { TargetRegistry } from "../target/target.ts";

export interface Verb {
  /** `argv`: what follows the verb; some have options that depend on it. */
  load(argv: readonly string[]): Promise<CommandDef>;
  /** As usage lines have them. */
  words?: "FILE" | "DEVICE" | "-- COMMAND…" | "SHELL";
  /** Command lines, each with what it is for. Tests see to it that they parse. */
  examples: [line: string, what: string][];
}

export type VerbTable = Record<string, Verb>;

/** `version`: of this program, for the manual. */
export function verbTable(targets: TargetRegistry, version: string): VerbTable {
  return { ...deviceVerbs(targets), ...lookingVerbs(targets), ...teachingVerbs(targets, version) };
}

const deviceVerbs = (targets: TargetRegistry): VerbTable => ({
  add: {
    load: async (argv) => (await import("./add.ts")).addCommand(targets, argv),
    examples: [
      ["ublk add -t loop -f disk.img", "a file becomes /dev/ublkb0"],
      ["ublk add -t qcow2 -f vm.qcow2", "so does a qcow2 image, with its backing files"],
      ["ublk add -t qcow2 -f vm.qcow2 --read-only", "to look at it only"],
      ["ublk add -t loop -f disk.img -o 1M -q 4 -d 64", "from 1 MiB on, with four queues"],
      ["ublk add -t null --size 10G --json", "a disk of nothing, described in JSON"],
      ["ublk add -t loop -f disk.img --supervise", "another server follows one that dies"],
      ["ublk add -t fault_inject --size 1G --error-rate 0.01", "a disk that fails now and then"],
    ],
  },
  run: {
    load: async (argv) => (await import("./run.ts")).runVerb(targets, argv),
    words: "-- COMMAND…",
    examples: [
      ["ublk run -t qcow2 -f x.qcow2 -- fdisk -l {}", "a device for as long as a command runs"],
      ["ublk run -t loop -f x.img -- sh -c 'mkfs.ext4 $UBLK_DEVICE'", "its path as a variable"],
    ],
  },
  del: {
    load: async () => (await import("./del.ts")).delCommand,
    examples: [
      ["ublk del -n 0", "delete /dev/ublkb0 and end its daemon"],
      ["ublk del -a", "delete all of them"],
    ],
  },
  stop: {
    load: async () => (await import("./stop.ts")).stopCommand,
    examples: [["ublk stop -n 0", "/dev/ublkb0 goes, number 0 stays taken"]],
  },
  recover: {
    load: async () => (await import("./recover.ts")).recoverCommand(targets),
    examples: [
      ["ublk recover -n 0", "a new server for a device whose server died"],
      ["ublk recover -a", "for all that have none"],
    ],
  },
  upgrade: {
    load: async () => (await import("./recover.ts")).upgradeCommand(targets),
    examples: [["ublk upgrade -a", "every device is served by this program from now on"]],
  },
  resize: {
    load: async () => (await import("./resize.ts")).resizeCommand,
    examples: [
      ["ublk resize -n 0 --size +10G", "/dev/ublkb0 and its image grow"],
      ["ublk resize -n 0", "the device follows a file that has grown"],
    ],
  },
  set_affinity: {
    load: async () => (await import("./set_affinity.ts")).setAffinityCommand,
    examples: [["ublk set_affinity -n 0 -q 1 --cpuset 2-3", "queue 1 is served on CPUs 2 and 3"]],
  },
});

const lookingVerbs = (targets: TargetRegistry): VerbTable => ({
  list: {
    load: async () => (await import("./list.ts")).listCommand,
    examples: [
      ["ublk list", "all devices, as a table on a terminal"],
      ["ublk list -v", "with flags, threads and CPUs, as scripts get it"],
      ["ublk list -n 0 --json", "one of them, for programs"],
    ],
  },
  stat: {
    load: async () => (await import("./stat.ts")).statCommand,
    examples: [
      ["ublk stat", "everything since each device was added"],
      ["ublk stat -n 0 -i 1", "rates of one device, second by second"],
      ["ublk stat --histogram", "how long requests took"],
      ["ublk stat --metrics /run/ublk.prom", "counters for Prometheus"],
    ],
  },
  top: {
    load: async () => (await import("./top.ts")).topCommand,
    examples: [["ublk top -i 2", "all devices, anew every two seconds"]],
  },
  check: {
    load: async () => (await import("./check.ts")).checkCommand(targets),
    words: "FILE",
    examples: [
      ["ublk check vm.qcow2", "look for errors"],
      ["ublk check --repair leaks vm.qcow2", "give back clusters that nobody uses"],
    ],
  },
  info: {
    load: async () => (await import("./info.ts")).infoCommand(targets),
    words: "FILE",
    examples: [["ublk info vm.qcow2", "its size, its format, its backing files"]],
  },
  "udev-rules": {
    load: async () => (await import("./udev_rules.ts")).udevRulesCommand,
    examples: [["ublk udev-rules --group disk", "rules for devices of ordinary users"]],
  },
  "chown-device": {
    load: async () => (await import("./chown_device.ts")).chownDeviceCommand,
    words: "DEVICE",
    examples: [["ublk chown-device /dev/ublkc0", "what these rules run, once a node appears"]],
  },
  unit: {
    load: async () => (await import("./unit.ts")).unitCommand,
    examples: [
      [
        "ublk unit --dir /etc/systemd/system",
        "systemd can keep devices: ublk@0.service and others",
      ],
    ],
  },
  features: {
    load: async () => (await import("./features.ts")).featuresCommand,
    examples: [["ublk features", "what the running kernel can do"]],
  },
});

const teachingVerbs = (targets: TargetRegistry, version: string): VerbTable => ({
  man: {
    load: async () => (await import("./man.ts")).manCommand(targets, version),
    examples: [["ublk man", "the manual page as roff: pipe it into man -l -"]],
  },
  complete: {
    load: async () => (await import("./complete.ts")).completeCommand(targets, version),
    words: "SHELL",
    examples: [["ublk complete bash", "for eval, or for a file that the shell reads"]],
  },
});
