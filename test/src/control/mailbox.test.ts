/** src/control/mailbox.ts: questions and answers over a real socket. */

import { expect, test } from "bun:test";
import { statSync } from "node:fs";
import { EBUSY, SysError } from "../../../ffi/errno.ts";
import { Conversation, type Listener, openMailbox } from "../../../src/control/mailbox.ts";
import { tempFolder } from "../../temp.ts";

const path = tempFolder()("0.sock");
const said: string[] = [];

openMailbox(0, listener, path);

function listener(): Listener {
  let asked = 0;
  return {
    async answer(question) {
      asked++;
      if (question === "busy") {
        throw new SysError({ op: "resize", errno: EBUSY, subject: "device 0", hint: "wait" });
      }
      return { question, asked };
    },
    gone: () => void said.push("gone"),
  };
}

test("each question gets its answer, and each conversation a listener of its own", async () => {
  const first = await Conversation.with(0, path);
  const second = await Conversation.with(0, path);
  const long = "x".repeat(30_000);
  expect(await first.ask({ long })).toEqual({ question: { long }, asked: 1 });
  expect(await second.ask(1)).toEqual({ question: 1, asked: 1 });
  expect(await first.ask(2)).toEqual({ question: 2, asked: 2 });
  second.close();
  while (said.length === 0) await Bun.sleep(1);
  expect(await first.ask(3)).toMatchObject({ asked: 3 });
  first.close();
});

test("an error arrives as it was thrown, hint and all", async () => {
  const talk = await Conversation.with(0, path);
  const error = await talk.ask("busy").catch((e: unknown) => e);
  expect((error as SysError).facts()).toEqual({
    ...{ op: "resize", errno: EBUSY, subject: "device 0", hint: "wait" },
  });
  talk.close();
});

test("only its owner may connect", () => {
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("who talks without end is not listened to", async () => {
  const ended = Promise.withResolvers<void>();
  const socket = await Bun.connect({
    unix: path,
    socket: { data() {}, close: () => ended.resolve(), error() {} },
  });
  for (let left = 4; left > 0; left--) socket.write("y".repeat(30_000));
  await ended.promise;
});

test("a server that does not listen is said to be one", async () => {
  const error = await Conversation.with(3, `${path}.none`).catch((e: unknown) => e);
  expect(String(error)).toContain("ask device 3: its server does not listen");
  expect((error as SysError).hint).toContain("older ublk");
});
