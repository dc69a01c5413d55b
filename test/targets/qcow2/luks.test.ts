/**
 * Images encrypted with LUKS, written by qemu and read by us and the other way round.
 *
 * qemu takes long to make one, as it measures how many iterations a passphrase is worth; so this
 * is part of the long runs only.
 */

import { expect, test } from "bun:test";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { Random } from "../../sim/random.ts";
import { retelling } from "../../sim/seeds.ts";
import {
  OP_DISCARD,
  OP_FLUSH,
  OP_READ,
  OP_WRITE,
  OP_WRITE_ZEROES,
} from "../../../src/target/target.ts";
import { qcow2Tools } from "../../../targets/qcow2/tools.ts";
import target from "../../../targets/qcow2/target.ts";
import { chooseRange } from "./images.ts";
import { hasQemu, must } from "./qemu.ts";
import { type Request, Rig } from "./rig.ts";
import { MEMORY, tempFolder, thrown } from "../../temp.ts";

const PATH = import.meta.path;
const long = process.env["UBLK_SEEDS"];
const folder = tempFolder(MEMORY);
const PASSPHRASE = "correct horse";
const SECRET = ["--object", `secret,id=s,data=${PASSPHRASE}`];
const SIZE = 2 << 20;

test.skipIf(!hasQemu || long === undefined)(
  "LUKS images are the same to qemu and to us (long run)",
  () => {
    for (const extended of ["off", "on"]) {
      const made = folder(`made_${extended}`);
      const options = `encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10`;
      const shape = `${options},cluster_size=16k,extended_l2=${extended}`;
      must(["qemu-img", "create", "-q", ...SECRET, "-f", "qcow2", "-o", shape, made, String(SIZE)]);
      refusals(made);
      for (let seed = 1; seed <= Math.min(20, Number(long)); seed++) {
        retelling(seed, PATH, () => {
          const path = folder(`${seed}_${extended}`);
          copyFileSync(made, path);
          judge(path, new Random(seed));
        });
      }
    }
  },
  600_000,
);

function refusals(path: string): void {
  const config = { backing_file: path, read_only: false, cache_size: 1 << 20, buffered_io: false };
  expect(String(thrown(() => target.open({ ...config, key_file: "" })))).toContain(
    "encrypted with LUKS",
  );
  const wrong = folder("wrong");
  writeFileSync(wrong, `${PASSPHRASE}\n`);
  expect(String(thrown(() => target.open({ ...config, key_file: wrong })))).toContain("opens none");
  const right = folder("right");
  writeFileSync(right, PASSPHRASE);
  target.open({ ...config, key_file: right }).close();
}

const optsOf = (path: string): string =>
  `driver=qcow2,encrypt.key-secret=s,file.driver=file,file.filename=${path}`;

function contents(path: string): Buffer {
  const raw = `${path}.raw`;
  must(["qemu-img", "convert", ...SECRET, "--image-opts", optsOf(path), "-O", "raw", raw]);
  return readFileSync(raw);
}

function judge(path: string, random: Random): void {
  const write = `write -P ${1 + random.int(255)} ${random.int(100) * 512} 100k`;
  must(["qemu-io", ...SECRET, "--image-opts", "-c", write, optsOf(path)]);
  const model = contents(path);
  const rig = new Rig(path, { depth: 8, passphrase: PASSPHRASE });
  expect(Buffer.compare(rig.read(0, SIZE), model)).toBe(0);
  for (let batch = 0; batch < 5; batch++) {
    const requests: Request[] = [];
    for (let index = 0; index < 12; index++) {
      const { offset, length } = chooseRange(random, { size: SIZE, clusterSize: 16384 });
      const taken = requests.some(
        (one) => offset < one.offset + one.length && one.offset < offset + length,
      );
      if (taken) continue;
      const op = random.pick([OP_WRITE, OP_WRITE, OP_READ, OP_WRITE_ZEROES, OP_DISCARD]);
      const bytes = new Uint8Array(length).fill(random.int(256));
      requests.push(op === OP_WRITE ? { op, offset, length, bytes } : { op, offset, length });
    }
    requests.push({ op: OP_FLUSH, offset: 0, length: 0 });
    const answers = rig.run(requests);
    requests.forEach(({ op, offset, length, bytes }, index) => {
      expect(answers[index]!.result).toBeGreaterThanOrEqual(0);
      const part = model.subarray(offset, offset + length);
      if (op === OP_READ) expect(Buffer.compare(answers[index]!.bytes, part)).toBe(0);
      if (op === OP_WRITE) part.set(bytes!);
      if (op === OP_WRITE_ZEROES) part.fill(0);
      if (op === OP_DISCARD) part.set(rig.read(offset, length));
    });
  }
  expect(Buffer.compare(rig.read(0, SIZE), model)).toBe(0);
  rig.close();
  must(["qemu-img", "check", ...SECRET, "--image-opts", optsOf(path)]);
  expect(qcow2Tools.check(path, { repair: undefined })).toMatchObject({ status: 0 });
  expect(Buffer.compare(contents(path), model)).toBe(0);
}
