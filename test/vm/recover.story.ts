// Goal: a write of a server that is dead lands before the next server is there, or never.
// Method: the disk below answers after seconds; the server that wrote to it is killed meanwhile.
// What else recovery promises is told by matrix.story.ts.

import { expect } from "bun:test";
import { story, type Vm } from "./story.ts";

/** Waits until the device has IO in flight. */
async function busy(vm: Vm, id: number): Promise<void> {
  await vm.sh`until [ "$(mawk '{ print $9 }' /sys/block/ublkb${id}/stat)" -gt 0 ]; do
    sleep 0.05; done`;
}

story(
  "the last write of a dead server is waited for: it cannot land on a newer one",
  {},
  async (vm) => {
    // 20 s until a write lands, long after the server that sent it is dead.
    const below = await vm.add`-t fault_inject --size 64M --delay-us write=20000000`;
    const id = await vm.add`-t loop -f /dev/ublkb${below} -i`;
    const pid = await vm.daemonPid(id);
    const writer = vm.start`dd if=/dev/zero of=/dev/ublkb${id} bs=4k count=1 oflag=direct status=none`;
    await busy(vm, below);
    const result = await vm.run`kill -KILL ${pid}; ublk recover -n ${id}`;
    expect(result.stderr).toContain("waiting for the driver to let go of device 1's last server");
    expect(result.status, result.stderr).toBe(0);
    expect((await writer.wait()).status).toBe(0);
    await vm.sh`ublk del -n ${id} && ublk del -n ${below}`;
  },
);
