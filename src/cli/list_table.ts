/** `ublk list` for people: a line a device. */

import type { DeviceView } from "../control/view.ts";
import { bytes, columns } from "./table.ts";

const SECTOR = 512;
const HEADING = ["DEVICE", ">SIZE", "TYPE", "STATE", "MODE", ">QUEUES", ">PID", "FILE"];

export function listTable(views: readonly DeviceView[]): string {
  if (views.length === 0) return "no devices; ublk add makes one (ublk help add)\n";
  return columns(HEADING, views.map(row));
}

function row(view: DeviceView): string[] {
  const { target, read_only: readOnly } = view;
  return [
    view.block_device,
    bytes(view.dev_sectors * SECTOR),
    String(target["name"] ?? "?"), // another server's
    readOnly ? `${view.state},ro` : view.state,
    view.batch ? `${view.mode},batch` : view.mode,
    `${view.nr_hw_queues}x${view.queue_depth}`,
    view.ublksrv_pid > 0 ? String(view.ublksrv_pid) : "-",
    // A name may hold what a terminal would obey.
    String(target["backing_file"] ?? "").replaceAll(/\p{Cc}/gu, "?"),
  ];
}
