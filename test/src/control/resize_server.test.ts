/** src/control/resize_server.ts: the order of a resize, and what is refused before it. */

import { expect, test } from "bun:test";
import { ENOSPC, SysError } from "../../../ffi/errno.ts";
import { ResizeServer } from "../../../src/control/resize_server.ts";
import type { Resizer } from "../../../src/target/target.ts";
import { diskOf } from "../../disks.ts";

const NOBODY = 999_999;

function serverOf(
  facts: {
    found?: number;
    blockBits?: number;
    failure?: number;
    keeps?: boolean;
    work?: Promise<number>;
  } = {},
) {
  const steps: string[] = [];
  const resizer: Resizer = {
    found: (block) => facts.found && Math.floor(facts.found / block) * block,
    check: (from, to) => void steps.push(`check ${from} ${to}`),
    apply: (from, to) => void steps.push(`apply ${from} ${to}`),
    config: () => ({}),
  };
  const thread = {
    resize: (size: number) => {
      steps.push(`thread ${size}`);
      return facts.work ?? Promise.resolve(facts.failure ?? 0);
    },
  };
  const disk = diskOf({ blockBits: facts.blockBits ?? 9 });
  const open = { disk, close: () => {}, ...(facts.keeps ? {} : { resizer }) };
  return { server: new ResizeServer(NOBODY, open, [thread, thread]), steps };
}

const refusal = async (answer: Promise<unknown>): Promise<string> => {
  const error: unknown = await answer.catch((e: unknown) => e);
  if (!(error instanceof SysError)) throw new Error(`no SysError but ${String(error)}`);
  return `${error.message} / ${error.hint}`;
};

test("grown, everything is ready before the device follows", async () => {
  const { server, steps } = serverOf();
  const talk = server.welcome();
  const sizes = { from: 1024, to: 4096, shrink: false };
  expect(await talk.answer({ ask: "resize", ...sizes })).toEqual({ to: 4096 });
  expect(steps).toEqual(["check 1024 4096", "apply 1024 4096", "thread 4096", "thread 4096"]);
  await talk.answer({ ask: "resized", ...sizes });
  expect(steps).toHaveLength(4);
});

test("shrunk, nothing is changed before the device has", async () => {
  const { server, steps } = serverOf();
  const talk = server.welcome();
  const sizes = { from: 4096, to: 1024, shrink: true };
  expect(await talk.answer({ ask: "resize", ...sizes })).toEqual({ to: 1024 });
  expect(steps).toEqual(["check 4096 1024"]);
  await talk.answer({ ask: "resized", ...sizes });
  expect(steps.slice(1)).toEqual(["thread 1024", "thread 1024", "apply 4096 1024"]);
});

test("without a size it takes what the backing has, or says that it needs one", async () => {
  const ask = { ask: "resize", from: 1024, shrink: false };
  expect(await serverOf({ found: 8192 }).server.welcome().answer(ask)).toEqual({ to: 8192 });
  const blocks = serverOf({ found: 8192 + 512, blockBits: 12 }).server;
  expect(await blocks.welcome().answer(ask)).toEqual({ to: 8192 });
  const { server, steps } = serverOf();
  expect(await refusal(server.welcome().answer(ask))).toContain("--size SIZE");
  expect(steps).toEqual([]);
});

test("a smaller size is refused without --shrink", async () => {
  const { server, steps } = serverOf();
  const ask = { ask: "resize", from: 4096, to: 1024, shrink: false };
  expect(await refusal(server.welcome().answer(ask))).toContain("1024 are fewer / --shrink");
  expect(steps).toEqual([]);
});

test("a thread that cannot do it says why", async () => {
  const ask = { ask: "resize", from: 1024, to: 4096, shrink: false };
  const { server } = serverOf({ failure: -ENOSPC });
  expect(await refusal(server.welcome().answer(ask))).toContain("ENOSPC");
});

test("there is one resize at a time, and the next one when its command has gone", async () => {
  const { server } = serverOf();
  const ask = { ask: "resize", from: 1024, to: 4096, shrink: false };
  const first = server.welcome();
  const second = server.welcome();
  await first.answer(ask);
  expect(await refusal(second.answer(ask))).toContain("is being resized already");
  second.gone();
  expect(await refusal(server.welcome().answer(ask))).toContain("is being resized already");
  first.gone();
  expect(await server.welcome().answer(ask)).toEqual({ to: 4096 });
});

test("whoever comes after a command that has gone waits until the threads have answered it", async () => {
  const work = Promise.withResolvers<number>();
  const { server, steps } = serverOf({ work: work.promise });
  const ask = { ask: "resize", from: 1024, to: 4096, shrink: false };
  const first = server.welcome();
  const answered = first.answer(ask);
  first.gone();
  expect(await refusal(server.welcome().answer(ask))).toContain("is being resized already");
  expect(steps.filter((step) => step.startsWith("thread"))).toHaveLength(2);
  work.resolve(-ENOSPC);
  expect(await refusal(answered)).toContain("ENOSPC");
  expect(await refusal(server.welcome().answer(ask))).toContain("ENOSPC");
});

test("what it does not know, and a disk that keeps its size, are refused", async () => {
  const { server } = serverOf({ keeps: true });
  expect(await refusal(server.welcome().answer({ ask: "fly" }))).toContain("does not know");
  const ask = { ask: "resize", from: 1024, to: 4096, shrink: false };
  expect(await refusal(server.welcome().answer(ask))).toContain("one size for ever");
});
