/** src/queue/assemble.ts on this machine's own io_uring: every mode gets what it needs. */

import { expect, test } from "bun:test";
import { Arena } from "../../../ffi/arena.ts";
import { SysError } from "../../../ffi/errno.ts";
import * as libc from "../../../ffi/libc.ts";
import { assemble } from "../../../src/queue/assemble.ts";
import { MODES, type ThreadShape } from "../../../src/target/thread_shape.ts";
import { BatchCommands } from "../../../src/queue/commands_batch.ts";
import { thrown } from "../../temp.ts";

const IOD_SIZE = 24;
const MAX_IO = 65536;

function shapeOf(facts: Partial<ThreadShape>, depth = 8, queues = 2): ThreadShape {
  const iods = new Arena(depth * IOD_SIZE);
  const share = { depth, firstTag: 0, tagStep: 1 };
  const memory = { iodsAddress: iods.address, iodsLength: depth * IOD_SIZE };
  return {
    ...{ mode: "copy", batch: false, userCopy: false, zeroCopyMin: 0, pollUs: 0 },
    ...{ maxIoBytes: MAX_IO, files: [], ...facts },
    queues: Array.from({ length: queues }, (_, queueId) => ({ queueId, ...share, ...memory })),
  };
}

test.each(MODES)("a thread of mode %s is set up and taken down", (mode) => {
  const zero = libc.open("/dev/zero", libc.O_RDONLY);
  for (const batch of mode === "get-data" ? [false] : [false, true]) {
    const { ring, ios, commands, free } = assemble(shapeOf({ mode, batch, files: [zero, zero] }));
    expect(ios.map(({ slot, queueId, tag }) => [slot, queueId, tag])).toEqual(
      Array.from({ length: 16 }, (_, slot) => [slot, slot >> 3, slot & 7]),
    );
    expect(commands instanceof BatchCommands).toBe(batch);
    expect(ring.entries).toBeGreaterThanOrEqual(32);
    ring.close();
    free();
  }
  libc.close(zero);
});

test("each request of copy mode has a buffer of its own", () => {
  const zero = libc.open("/dev/zero", libc.O_RDONLY);
  const { ring, ios, free } = assemble(shapeOf({ files: [zero] }));
  const addresses = ios.map(({ commandAddress }) => commandAddress).toSorted((a, b) => a - b);
  for (let at = 1; at < addresses.length; at++) {
    expect(addresses[at]! - addresses[at - 1]!).toBeGreaterThanOrEqual(MAX_IO);
  }
  ring.close();
  free();
  libc.close(zero);
});

test("a thread of more requests than a ring can hold is refused with a way out", () => {
  const error = thrown(() => assemble(shapeOf({}, 4096, 16))) as SysError;
  expect(error).toBeInstanceOf(SysError);
  expect(error.message).toContain("65536 requests are too many for one thread");
  expect(error.hint).toContain("--depth");
});
