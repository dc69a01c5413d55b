/**
 * How a running server is spoken to: a socket beside its state file. One line of JSON asks, one
 * answers. Who may connect is decided by the directory, which is its owner's alone; the kernel's
 * word on who is there is asked for all the same.
 */

import { chmodSync, rmSync } from "node:fs";
import { EIO, type ErrorFacts, errorFacts, SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import { socketPath } from "./state.ts";

/** One who has connected. Questions come one at a time. */
export interface Listener {
  /** Throws SysError, which the other side hears. */
  answer(question: unknown): Promise<unknown>;
  gone(): void;
}

type Reply = { answer: unknown } | { failed: ErrorFacts };

/** No question of ours comes near it. */
const LINE_MAX = 1 << 16;
const OWNER_ONLY = 0o600;

/**
 * In the server, until its process ends. `welcome` makes what listens to one who has connected.
 * The path is left to `removeState`: by then it may be a later server's.
 */
export function openMailbox(
  id: number,
  welcome: () => Listener,
  path: string = socketPath(id),
): void {
  rmSync(path, { force: true }); // what a server that was killed left behind
  Bun.listen<Ear>({
    unix: path,
    socket: {
      open(socket) {
        socket.data = new Ear(welcome(), (line) => void socket.write(line));
        if (!isOwner(libc.peerUid((socket as unknown as { fd: number }).fd))) socket.end();
      },
      data(socket, bytes) {
        if (!socket.data.hear(bytes)) socket.end();
      },
      close(socket) {
        socket.data.listener.gone();
      },
      error() {}, // it is closed, too
    },
  });
  chmodSync(path, OWNER_ONLY);
}

const isOwner = (uid: number): boolean => uid === 0 || uid === process.geteuid?.();

/** Cuts what comes into lines, and answers them in turn. */
class Ear {
  readonly listener: Listener;
  readonly #say: (line: string) => void;
  #text = "";
  #last: Promise<void> = Promise.resolve();

  constructor(listener: Listener, say: (line: string) => void) {
    this.listener = listener;
    this.#say = say;
  }

  /** False for somebody who does not speak as we do. */
  hear(bytes: Uint8Array): boolean {
    this.#text += new TextDecoder().decode(bytes);
    const lines = this.#text.split("\n");
    this.#text = lines.pop() ?? "";
    for (const line of lines) this.#last = this.#last.then(() => this.#answer(line));
    return this.#text.length < LINE_MAX;
  }

  async #answer(line: string): Promise<void> {
    let reply: Reply;
    try {
      reply = { answer: (await this.listener.answer(JSON.parse(line))) ?? null };
    } catch (error) {
      reply = { failed: errorFacts(error) };
    }
    this.#say(`${JSON.stringify(reply)}\n`);
  }
}

/** In the command: a conversation with a device's server. */
export class Conversation {
  readonly #socket: Awaited<ReturnType<typeof connect>>;
  readonly #id: number;
  #heard = "";
  #waiting: PromiseWithResolvers<string> | undefined;
  #closed = false;

  private constructor(id: number, socket: Awaited<ReturnType<typeof connect>>) {
    this.#id = id;
    this.#socket = socket;
  }

  /** Throws SysError when nobody listens. */
  static async with(id: number, path: string = socketPath(id)): Promise<Conversation> {
    try {
      const socket = await connect(path);
      socket.data = new Conversation(id, socket);
      return socket.data;
    } catch {
      const hint = "was it started by an older ublk? del and add make it listen";
      throw new SysError({ ...silence(id), reason: "its server does not listen", hint });
    }
  }

  async ask(question: unknown): Promise<unknown> {
    if (this.#closed) throw new SysError({ ...silence(this.#id), reason: "its server has ended" });
    this.#waiting = Promise.withResolvers<string>();
    this.#socket.write(`${JSON.stringify(question)}\n`);
    const reply = JSON.parse(await this.#waiting.promise) as Reply;
    if ("failed" in reply) throw new SysError(reply.failed);
    return reply.answer;
  }

  heard(bytes: Uint8Array): void {
    this.#heard += new TextDecoder().decode(bytes);
    const end = this.#heard.indexOf("\n");
    if (end < 0) return;
    this.#waiting?.resolve(this.#heard.slice(0, end));
    this.#heard = this.#heard.slice(end + 1);
  }

  ended(): void {
    this.#closed = true;
    this.#waiting?.reject(
      new SysError({ ...silence(this.#id), reason: "its server ended before it answered" }),
    );
  }

  close(): void {
    this.#socket.end();
  }
}

const silence = (id: number): ErrorFacts => ({ op: "ask", errno: EIO, subject: `device ${id}` });

function connect(path: string) {
  return Bun.connect<Conversation | undefined>({
    unix: path,
    socket: {
      data: (socket, bytes) => socket.data?.heard(bytes),
      close: (socket) => socket.data?.ended(),
      error() {}, // it is closed, too
    },
  });
}
