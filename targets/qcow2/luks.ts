/** The LUKS header inside an image, and the key that a passphrase opens. LUKS 1, AES-XTS. */

import { createHash, pbkdf2Sync, timingSafeEqual } from "node:crypto";
import type { SyncFile } from "../../src/target/file_io.ts";
import { SECTOR } from "./format.ts";
import { type Header, ImageError, type Refuse } from "./header.ts";
import { printable } from "./names.ts";
import { DiskCipher } from "./xts.ts";

const HEADER = 592;
const SLOTS_AT = 208;
const SLOT = 48;
const SLOT_COUNT = 8;
const SLOT_ACTIVE = 0x00ac71f3;
/** A hostile header could keep us busy for ever. */
const ITERATIONS_MAX = 1 << 25;
const STRIPES_MAX = 1 << 15;
const HASHES = ["sha1", "sha256", "sha512"];

interface Slot {
  iterations: number;
  salt: Uint8Array;
  materialAt: number;
  stripes: number;
}

interface Partition {
  hash: string;
  keyLength: number;
  digest: Uint8Array;
  digestSalt: Uint8Array;
  digestIterations: number;
  slots: Slot[];
}

/** The cipher of the image's data. Throws ImageError, also for a passphrase that opens nothing. */
export function unlock(
  image: SyncFile,
  header: Header,
  passphrase: Uint8Array,
  from = "the key file",
): DiskCipher {
  const refuse = (reason: string, hint?: string): never => {
    throw new ImageError(image.path, reason, hint);
  };
  const area = header.cryptHeader;
  if (area === undefined) return refuse("is encrypted with LUKS and has no encryption header");
  const partition = readPartition(image, area.offset, refuse);
  for (const slot of partition.slots) {
    const key = openSlot(image, area, partition, slot, passphrase);
    if (key !== undefined) return new DiskCipher(key);
  }
  return refuse(
    `${from} opens none of its key slots`,
    from === "the key file" ? "it has to hold the passphrase exactly" : "try again",
  );
}

function readPartition(image: SyncFile, offset: number, refuse: Refuse): Partition {
  const bytes = new Uint8Array(HEADER);
  if (image.read(bytes, offset) !== HEADER) refuse("its encryption header goes beyond the file");
  const view = new DataView(bytes.buffer);
  const text = (at: number): string =>
    new TextDecoder().decode(bytes.subarray(at, at + 32)).replace(/\0.*$/s, "");
  if (text(0).slice(0, 4) !== "LUKS" || view.getUint16(6) !== 1) {
    refuse("its encryption header is not of LUKS version 1");
  }
  const [cipher, mode, hash] = [text(8), text(40), text(72)];
  if (cipher !== "aes" || mode !== "xts-plain64") {
    refuse(`its cipher is ${printable(cipher)}-${printable(mode)}; aes-xts-plain64 is known here`);
  }
  if (!HASHES.includes(hash))
    refuse(`its hash is ${printable(hash)}; known are ${HASHES.join(", ")}`);
  const keyLength = view.getUint32(108);
  if (keyLength !== 32 && keyLength !== 64) refuse(`its key has ${keyLength} bytes, not 32 or 64`);
  const digestIterations = view.getUint32(164);
  const slots = readSlots(view, bytes);
  const most = Math.max(digestIterations, ...slots.map((slot) => slot.iterations));
  if (most > ITERATIONS_MAX || digestIterations === 0) refuse(`it asks for ${most} iterations`);
  const digest = bytes.slice(112, 132);
  const digestSalt = bytes.slice(132, 164);
  return { hash, keyLength, digest, digestSalt, digestIterations, slots };
}

function readSlots(view: DataView, bytes: Uint8Array): Slot[] {
  const slots: Slot[] = [];
  for (let index = 0; index < SLOT_COUNT; index++) {
    const at = SLOTS_AT + index * SLOT;
    const slot = {
      iterations: view.getUint32(at + 4),
      salt: bytes.slice(at + 8, at + 40),
      materialAt: view.getUint32(at + 40) * SECTOR,
      stripes: view.getUint32(at + 44),
    };
    const usable = slot.iterations > 0 && slot.stripes > 0 && slot.stripes <= STRIPES_MAX;
    if (view.getUint32(at) === SLOT_ACTIVE && usable) slots.push(slot);
  }
  return slots;
}

/** The volume key, or undefined when this slot is not the passphrase's. */
function openSlot(
  image: SyncFile,
  area: { offset: number; length: number },
  partition: Partition,
  slot: Slot,
  passphrase: Uint8Array,
): Uint8Array | undefined {
  const { hash, keyLength } = partition;
  const material = new Uint8Array(Math.ceil((keyLength * slot.stripes) / SECTOR) * SECTOR);
  if (slot.materialAt + keyLength * slot.stripes > area.length) return undefined;
  image.read(material, area.offset + slot.materialAt);
  const slotKey = pbkdf2Sync(passphrase, slot.salt, slot.iterations, keyLength, hash);
  new DiskCipher(slotKey).decrypt(material, 0);
  const key = merge(material, keyLength, slot.stripes, hash);
  const { digestSalt, digestIterations, digest } = partition;
  const found = pbkdf2Sync(key, digestSalt, digestIterations, digest.length, hash);
  return timingSafeEqual(found, digest) ? key : undefined;
}

/** The anti-forensic splitter, backwards: every stripe is needed to get at the key. */
function merge(material: Uint8Array, length: number, stripes: number, hash: string): Uint8Array {
  let key = new Uint8Array(length);
  for (let stripe = 0; stripe < stripes; stripe++) {
    const part = material.subarray(stripe * length, (stripe + 1) * length);
    for (let at = 0; at < length; at++) key[at]! ^= part[at]!;
    if (stripe < stripes - 1) key = diffuse(key, hash);
  }
  return key;
}

function diffuse(key: Uint8Array, hash: string): Uint8Array<ArrayBuffer> {
  const output = new Uint8Array(key.length);
  const size = createHash(hash).digest().length;
  for (let at = 0, index = 0; at < key.length; at += size, index++) {
    const number = new Uint8Array(4);
    new DataView(number.buffer).setUint32(0, index);
    const digest = createHash(hash)
      .update(number)
      .update(key.subarray(at, at + size))
      .digest();
    output.set(digest.subarray(0, Math.min(size, key.length - at)), at);
  }
  return output;
}
