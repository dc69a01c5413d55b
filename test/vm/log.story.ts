// Goal: who keeps a system running finds in its log what happened to a device, and nothing else.
// Method: a receiver stands in for the system's log at /dev/log; what it heard is compared, word
// for word, with what was done to the devices.

import { expect } from "bun:test";
import { join } from "node:path";
import { story, type Vm } from "./story.ts";

const RECEIVER = await Bun.file(join(import.meta.dir, "../receiver.ts")).text();

/** Starts a log; answers what it has heard, without priority, time and process id. */
async function startLog(vm: Vm): Promise<() => string[]> {
  await vm.write("/tmp/receiver.ts", RECEIVER);
  const log = vm.start`BUN_BE_BUN=1 exec ublk run /tmp/receiver.ts /run/log`;
  await vm.sh`until test -S /run/log; do sleep 0.1; done; ln -sfn /run/log /dev/log`;
  const lines = () => log.soFar().stdout.trim().split("\n");
  return () => lines().map((line) => /^<\d+>.{15} ublk\[\d+\]: (.*)$/.exec(line)?.[1] ?? line);
}

async function hears(heard: () => string[], line: string): Promise<void> {
  for (let tries = 0; !heard().includes(line); tries++) {
    if (tries === 100) throw new Error(`the log has no '${line}' but\n${heard().join("\n")}`);
    await Bun.sleep(100);
  }
}

story("the log has a device's life, and no line of an IO", {}, async (vm) => {
  const heard = await startLog(vm);
  const image = `${vm.data}/log.img`;
  await vm.sh`truncate -s 64M ${image}`;
  await vm.add`-t loop -f ${image} --mode copy`;
  const live = `ublk0: live: loop ${image}, 67108864 bytes, copy, queues 1`;
  await vm.sh`dd if=/dev/ublkb0 of=/dev/null bs=4k count=1000 iflag=direct status=none`;
  await vm.sh`ublk del -n 0`;
  await hears(heard, "ublk0: stopped");
  expect(heard()).toEqual([live, "ublk0: stopped"]);

  await vm.add`-t loop -f ${image} --mode copy --log-level warn`;
  const pid = await vm.daemonPid(0);
  await vm.sh`kill -TERM ${pid}; while test -e /proc/${pid}; do sleep 0.05; done`;
  await vm.add`-t loop -f ${image} --mode copy`;
  const next = await vm.daemonPid(0);
  await vm.sh`kill -TERM ${next}; while test -e /proc/${next}; do sleep 0.05; done`;
  await hears(heard, "ublk0: SIGTERM: stopping");
  const stopped = "ublk0: stopped";
  expect(heard()).toEqual([live, stopped, live, "ublk0: SIGTERM: stopping", stopped]);
  await vm.sh`rm /dev/log`;
});
