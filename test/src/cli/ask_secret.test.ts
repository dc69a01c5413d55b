/** The question for a passphrase, at a terminal of our own making. */

import { expect, setDefaultTimeout, test } from "bun:test";
import { pbkdf2Sync } from "node:crypto";
import { constants } from "node:os";
import { join } from "node:path";
import { readLine } from "../../../src/cli/ask_secret.ts";
import * as q from "../../../targets/qcow2/format.ts";
import { DiskCipher } from "../../../targets/qcow2/xts.ts";
import { tempFolder } from "../../temp.ts";
import { atTerminal } from "../../terminal.ts";

setDefaultTimeout(60_000);
const folder = tempFolder();
const MAIN = join(import.meta.dir, "../../../src/main.ts");

const typed = (keys: string): string | undefined => {
  const bytes = Buffer.from(keys, "utf8").toString("latin1");
  let next = 0;
  return readLine(() => bytes[next++] ?? "\x04");
};

test("a line is what was typed up to Enter", () => {
  expect(typed("geheim\rmore")).toBe("geheim");
  expect(typed("geheim\n")).toBe("geheim");
  expect(typed("no enter")).toBe("no enter");
});

test("Backspace takes back one character, however many bytes it has", () => {
  expect(typed("ab\x7fc\r")).toBe("ac");
  expect(typed("aü\x7fb\b\bc\r")).toBe("c");
  expect(typed("\x7f\x7fa\r")).toBe("a");
});

test("Ctrl-U takes back all of it, Ctrl-C the command", () => {
  expect(typed("wrong\x15right\r")).toBe("right");
  expect(typed("gehe\x03")).toBeUndefined();
});

test("a passphrase is asked for, not shown, and tried", async () => {
  const image = folder("luks.qcow2");
  await Bun.write(image, corruptLuksImage("geheim"));
  const { shown: wrong } = await asked(image, "fa1sch\r");
  expect(wrong).toContain(`passphrase of ${image} (not kept: recovery needs --key-file): `);
  expect(wrong).not.toContain("fa1sch");
  expect(wrong).toContain("the passphrase opens none of its key slots");
  for (const where of [[], ["--foreground"]]) {
    const { shown: right } = await asked(image, "geheim\r", where);
    expect(right).not.toContain("geheim");
    expect(right).toContain("is marked as corrupt");
  }
  const piped = (...options: string[]): string => {
    const words = [process.execPath, MAIN, "add", "-t", "qcow2", "-f", image, ...options];
    return String(Bun.spawnSync(words, { stdin: Buffer.from("geheim\n") }).stderr);
  };
  expect(piped()).toContain("is encrypted with LUKS");
  expect(piped("-r")).toContain("recovery and a passphrase that is typed exclude each other");
});

test("Ctrl-C ends the command as it ends others, and says nothing", async () => {
  const image = folder("interrupted.qcow2");
  await Bun.write(image, corruptLuksImage("geheim"));
  const { shown, signal } = await asked(image, "gehe\x03");
  expect(signal).toBe("SIGINT");
  expect(shown).toEndWith("--key-file): \r\n");
});

test("a run whose passphrase is not given ends as its command would have", async () => {
  const image = folder("run.qcow2");
  await Bun.write(image, corruptLuksImage("geheim"));
  const words = ["run", "-t", "qcow2", "-f", image, "--", "true"];
  let status = -1;
  await atTerminal(words, async (terminal, child, soFar) => {
    while (!soFar().endsWith("--key-file): ") && child.exitCode === null) await Bun.sleep(10);
    terminal.write("\x03");
    status = await child.exited;
  });
  expect(status).toBe(128 + constants.signals.SIGINT);
});

/** What a terminal shows of `ublk add`, and which signal ends that, while somebody types. */
async function asked(image: string, keys: string, more: string[] = []) {
  let signal = "none";
  const words = ["add", "-t", "qcow2", "-f", image, ...more];
  const { shown } = await atTerminal(words, async (terminal, child, soFar) => {
    const isAsked = (): boolean => soFar().endsWith("--key-file): ");
    while (!isAsked() && child.exitCode === null) await Bun.sleep(10);
    if (isAsked()) terminal.write(keys);
    await child.exited;
    signal = String(child.signalCode);
  });
  return { shown, signal };
}

/**
 * Headers alone, of an image that is marked as corrupt: that is found out behind the key, and
 * before the driver is asked. The key has one stripe, so that it stands there as it is.
 */
function corruptLuksImage(passphrase: string): Uint8Array<ArrayBuffer> {
  const CLUSTER = 1 << 16;
  const bytes = new Uint8Array(4 * CLUSTER);
  const words = {
    ...{ 0: q.MAGIC, 4: 3, 20: 16, 28: 1 << 20, 36: 1, 44: CLUSTER },
    ...{ [q.CRYPT_METHOD_AT]: q.CRYPT_LUKS, 96: 4, 100: q.V3_HEADER_LENGTH },
    ...{ [q.REFCOUNT_TABLE_OFFSET_AT + 4]: 2 * CLUSTER, 56: 1 },
    ...{ [q.INCOMPATIBLE_FEATURES_AT + 4]: q.INCOMPATIBLE_CORRUPT },
    ...{ 104: q.EXTENSION_CRYPT_HEADER, 108: 16, 116: 3 * CLUSTER, 124: CLUSTER },
  };
  setWords(bytes, words);
  bytes.set(luksArea(passphrase), 3 * CLUSTER);
  return bytes;
}

function luksArea(passphrase: string): Uint8Array {
  const area = new Uint8Array(8192);
  const key = new Uint8Array(64).map((_, at) => at * 3 + 1);
  const [salt, iterations, sector] = [new Uint8Array(32), 10, 8]; // zeros, as the area has them
  const texts = { 0: "LUKS\xba\xbe\0\x01", 8: "aes", 40: "xts-plain64", 72: "sha256" };
  for (const [at, text] of Object.entries(texts)) area.set(Buffer.from(text, "latin1"), Number(at));
  setWords(area, {
    ...{ 108: key.length, 164: iterations },
    ...{ 208: 0x00ac71f3, 212: iterations, 248: sector, 252: 1 },
  });
  area.set(pbkdf2Sync(key, salt, iterations, 20, "sha256"), 112);
  const material = new Uint8Array(512);
  material.set(key);
  new DiskCipher(pbkdf2Sync(passphrase, salt, iterations, 64, "sha256")).encrypt(material, 0);
  area.set(material, sector * 512);
  return area;
}

function setWords(bytes: Uint8Array, words: Record<number, number>): void {
  const view = new DataView(bytes.buffer);
  for (const [at, value] of Object.entries(words)) view.setUint32(Number(at), value);
}
