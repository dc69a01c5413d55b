/** AES-XTS as IEEE 1619 has it. */

import { expect, test } from "bun:test";
import { DiskCipher } from "../../../targets/qcow2/xts.ts";

const counting = (length: number): Uint8Array => Uint8Array.from({ length }, (_, at) => at);

test("vectors 4 and 10 of IEEE 1619 come out, and back", () => {
  const vectors = [
    // AES-128, data unit 0.
    [
      "2718281828459045235360287471352631415926535897932384626433832795",
      0,
      "27a7479befa1d476489f308cd4cfa6e2",
    ],
    // AES-256, data unit 0xff.
    [
      "2718281828459045235360287471352662497757247093699959574966967627" +
        "3141592653589793238462643383279502884197169399375105820974944592",
      0xff,
      "1c3b3a102f770386e4836c99e370cf9b",
    ],
  ] as const;
  for (const [key, sector, wanted] of vectors) {
    const cipher = new DiskCipher(Buffer.from(key, "hex"));
    const bytes = new Uint8Array(512);
    for (let at = 0; at < 512; at += 256) bytes.set(counting(256), at);
    const plain = bytes.slice();
    cipher.encrypt(bytes, sector * 512);
    expect(Buffer.from(bytes.subarray(0, 16)).toString("hex")).toBe(wanted);
    cipher.decrypt(bytes, sector * 512);
    expect(bytes).toEqual(plain);
  }
});

test("many sectors at once are what they are one by one, also behind 2 TiB", () => {
  const cipher = new DiskCipher(counting(64));
  for (const offset of [0, 512 * 77, 2 ** 41 + 512 * 3]) {
    const together = counting(4096);
    const alone = together.slice();
    cipher.encrypt(together, offset);
    for (let at = 0; at < 4096; at += 512) {
      cipher.encrypt(alone.subarray(at, at + 512), offset + at);
    }
    expect(together).toEqual(alone);
  }
});
