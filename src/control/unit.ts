/**
 * Unit templates for systemd: one device an instance, `ublk@ID.service`.
 *
 * The server runs in the foreground and says when it is ready. SIGTERM deletes the device, a
 * reload replaces the server, and a server that dies is followed by another that takes over; when
 * that happens too often, the device is stopped, so that nobody waits for it.
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { SysError } from "../../ffi/errno.ts";

/** By file name. */
export interface UnitFiles {
  "ublk@.service": string;
  "ublk-stop@.service": string;
}

/** `program`: the executable's path. */
export function unitFiles(program: string): UnitFiles {
  return { "ublk@.service": service(program), "ublk-stop@.service": stop(program) };
}

const service = (program: string): string => `\
# /etc/ublk/ID.conf says what device ID is, in the options of \`ublk add\`:
#   OPTIONS=-t qcow2 -f /srv/images/vm.qcow2
# ublk-stop@.service has to stand beside this file: \`ublk unit --dir DIR\` writes both.
[Unit]
Description=ublk device %i
Documentation=https://docs.kernel.org/block/ublk.html
Wants=modprobe@ublk_drv.service
After=modprobe@ublk_drv.service
OnFailure=ublk-stop@%i.service
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
Type=notify
# The server that a reload starts is not the one that systemd started.
NotifyAccess=all
EnvironmentFile=/etc/ublk/%i.conf
ExecStart=${program} add --foreground -n %i --or-recover $OPTIONS
ExecReload=${program} upgrade -n %i
Restart=on-failure
# Words that make no sense make none the next time either.
RestartPreventExitStatus=2
RestartSec=100ms
# An upgrade may wait a minute for the last requests, and as long for the driver.
TimeoutStartSec=180
TimeoutStopSec=90
OOMScoreAdjust=-1000

[Install]
WantedBy=multi-user.target
`;

const stop = (program: string): string => `\
# Ends the waiting for a device whose server could not be kept alive. One that is served is not
# ours: somebody made it by hand, and ublk@%i could not begin for that.
[Unit]
Description=give up ublk device %i

[Service]
Type=oneshot
ExecStart=${program} stop --unserved -n %i
`;

/** Answers the paths of what it has written. */
export function installUnits(files: UnitFiles, dir: string): string[] {
  return Object.entries(files).map(([name, text]) => {
    const path = join(dir, name);
    try {
      writeFileSync(path, text, { mode: 0o644 });
    } catch (error) {
      throw new SysError({
        op: "write",
        errno: -((error as { errno?: number }).errno ?? 0),
        subject: path,
      });
    }
    return path;
  });
}
