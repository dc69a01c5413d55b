// Goal: who keeps a system running finds in its log what happened to a device, and nothing else.
// Method: a receiver stands in for the system's log at /dev/log; what it heard is compared, word
// for word, with what was done to the devices.

import { expect } from "bun:test";
import { GuestLog } from "./guest_log.ts";
import { story } from "./story.ts";

story("the log has a device's life, and no line of an IO", {}, async (vm) => {
  const log = await GuestLog.start(vm);
  const image = `${vm.data}/log.img`;
  await vm.sh`truncate -s 64M ${image}`;
  await vm.add`-t loop -f ${image} --mode copy`;
  const live = `ublk0: live: loop ${image}, 67108864 bytes, copy, queues 1`;
  const stopped = "ublk0: stopped";
  await vm.sh`dd if=/dev/ublkb0 of=/dev/null bs=4k count=1000 iflag=direct status=none`;
  await vm.sh`ublk del -n 0`;
  await log.hears(stopped);
  expect(log.lines).toEqual([live, stopped]);

  await vm.add`-t loop -f ${image} --mode copy --log-level warn`;
  const pid = await vm.daemonPid(0);
  await vm.sh`kill -TERM ${pid}; while test -e /proc/${pid}; do sleep 0.05; done`;
  await vm.add`-t loop -f ${image} --mode copy`;
  const next = await vm.daemonPid(0);
  await vm.sh`kill -TERM ${next}; while test -e /proc/${next}; do sleep 0.05; done`;
  await log.hears(stopped, 2);
  expect(log.lines).toEqual([live, stopped, live, "ublk0: SIGTERM: stopping", stopped]);
  await log.stop();
});
