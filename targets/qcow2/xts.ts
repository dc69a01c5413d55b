/** AES-XTS over sectors of 512 bytes, out of the AES-ECB that the runtime has. */

import { type Cipheriv, createCipheriv, createDecipheriv, type Decipheriv } from "node:crypto";
import { SECTOR, TWO_32 } from "./format.ts";

const BLOCK = 16;
const WORDS_PER_SECTOR = SECTOR / 4;

/** What the bytes of a disk look like in its file. */
export class DiskCipher {
  readonly #encrypt: Cipheriv;
  readonly #decrypt: Decipheriv;
  readonly #tweak: Cipheriv;

  /** `key`: that of the data, then that of the tweak; 32 or 64 bytes. */
  constructor(key: Uint8Array) {
    const half = key.length / 2;
    const name = `aes-${half * 8}-ecb`;
    const data = key.subarray(0, half);
    this.#encrypt = createCipheriv(name, data, null).setAutoPadding(false);
    this.#decrypt = createDecipheriv(name, data, null).setAutoPadding(false);
    this.#tweak = createCipheriv(name, key.subarray(half), null).setAutoPadding(false);
  }

  /** In place; `bytes` are whole sectors that stand at `offset` in the file. */
  encrypt(bytes: Uint8Array, offset: number): void {
    this.#run(this.#encrypt, bytes, offset);
  }

  decrypt(bytes: Uint8Array, offset: number): void {
    this.#run(this.#decrypt, bytes, offset);
  }

  #run(cipher: Cipheriv | Decipheriv, bytes: Uint8Array, offset: number): void {
    const tweaks = this.#tweaks(bytes.length / SECTOR, offset / SECTOR);
    const words = new Uint32Array(bytes.length / 4);
    const copy = new Uint8Array(words.buffer);
    copy.set(bytes);
    xor(words, tweaks);
    copy.set(cipher.update(copy));
    xor(words, tweaks);
    bytes.set(copy);
  }

  /** Of every block: the sector's number, encrypted, and doubled once for each block before. */
  #tweaks(sectors: number, first: number): Uint32Array {
    const numbers = new DataView(new ArrayBuffer(sectors * BLOCK));
    for (let sector = 0; sector < sectors; sector++) {
      const number = first + sector;
      numbers.setUint32(sector * BLOCK, number % TWO_32, true);
      numbers.setUint32(sector * BLOCK + 4, Math.floor(number / TWO_32), true);
    }
    const firsts = this.#tweak.update(new Uint8Array(numbers.buffer));
    const view = new DataView(firsts.buffer, firsts.byteOffset, firsts.length);
    const tweaks = new Uint32Array(sectors * WORDS_PER_SECTOR);
    for (let sector = 0; sector < sectors; sector++) {
      const at = sector * BLOCK;
      let [a, b] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
      let [c, d] = [view.getUint32(at + 8, true), view.getUint32(at + 12, true)];
      const end = (sector + 1) * WORDS_PER_SECTOR;
      for (let to = sector * WORDS_PER_SECTOR; to < end; to += 4) {
        tweaks[to] = a;
        tweaks[to + 1] = b;
        tweaks[to + 2] = c;
        tweaks[to + 3] = d;
        // Times x in the field of 2^128, whose polynomial is x^128 + x^7 + x^2 + x + 1.
        const carry = (d >>> 31) * 0x87;
        d = (d << 1) | (c >>> 31);
        c = (c << 1) | (b >>> 31);
        b = (b << 1) | (a >>> 31);
        a = (a << 1) ^ carry;
      }
    }
    return tweaks;
  }
}

function xor(words: Uint32Array, other: Uint32Array): void {
  for (let at = 0; at < words.length; at++) words[at]! ^= other[at]!;
}
