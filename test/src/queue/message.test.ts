/** src/queue/message.ts on this machine's own io_uring: what is told is what is heard. */

import { expect, test } from "bun:test";
import { SysError } from "../../../ffi/errno.ts";
import { KernelRing } from "../../../ffi/kernel_ring.ts";
import * as libc from "../../../ffi/libc.ts";
import { KIND_RESIZE, kindOf } from "../../../src/queue/user_data.ts";
import { sizeIn, tellSize } from "../../../src/queue/message.ts";
import { thrown } from "../../temp.ts";

test("a size arrives in another ring, exactly", () => {
  const ring = new KernelRing(8);
  for (const size of [512, 2 ** 32, 2 ** 40 - 512, 2 ** 41, 2 ** 52 + 512]) {
    tellSize(ring.fd, size);
    expect(ring.waitFor(1000)).toBe(true);
    expect(kindOf(ring.cqMeta())).toBe(KIND_RESIZE);
    expect(sizeIn(ring.cqSlot(), ring.cqRes())).toBe(size);
    ring.cqAdvance();
  }
  ring.close();
});

test("what is no ring is an error that names the operation", () => {
  const fd = libc.open("/dev/null", libc.O_RDONLY);
  const error = thrown(() => tellSize(fd, 512)) as SysError;
  libc.close(fd);
  expect(error).toBeInstanceOf(SysError);
  expect(error.message).toContain("io_uring MSG_RING");
});
