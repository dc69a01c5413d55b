/** What is opened, what is refused and in which words, and who may share an image with us. */

import { expect, setDefaultTimeout, test } from "bun:test";
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { SysError } from "../../../src/target/file_io.ts";
import { OP_DISCARD, OP_FLUSH, OP_READ, OP_WRITE } from "../../../src/target/target.ts";
import target from "../../../targets/qcow2/target.ts";
import { EXTENSION_BITMAPS } from "../../../targets/qcow2/format.ts";
import { contents, hasQemu, must, qemuIo, run } from "./qemu.ts";
import { headerOf } from "./reference.ts";
import { Rig } from "./rig.ts";
import { MEMORY, tempFolder, thrown } from "../../temp.ts";

// Other programs run, on a machine that may be busy.
setDefaultTimeout(60_000);
const folder = tempFolder(MEMORY);
const testQemu = test.skipIf(!hasQemu);
let made = 0;

function create(...options: string[]): string {
  const path = folder(`image${made++}.qcow2`);
  must(["qemu-img", "create", "-q", "-f", "qcow2", ...options, path, "4M"]);
  return path;
}

const configOf = (path: string, read_only = false) =>
  ({
    backing_file: path,
    read_only,
    cache_size: 1 << 20,
    key_file: "",
    buffered_io: false,
  }) as const;

function refusal(path: string, readOnly = false): string {
  const error = thrown(() => target.open(configOf(path, readOnly)));
  if (!(error instanceof SysError)) throw error;
  expect(error.message).not.toContain("\n");
  return error.message;
}

function poke(path: string, offset: number, ...bytes: number[]): void {
  const fd = openSync(path, "r+");
  writeSync(fd, Uint8Array.from(bytes), 0, bytes.length, offset);
  closeSync(fd);
}

testQemu("qemu does not write to an image that we serve, nor we to one that it has open", () => {
  const path = create();
  const open = target.open(configOf(path));
  const theirs = run(["qemu-io", "-f", "qcow2", "-c", "write 0 4k", path]);
  expect(theirs.output).toContain('Failed to get "write" lock');
  expect(refusal(path)).toContain("is in use");
  open.close();
  target.open(configOf(path)).close();
});

testQemu("an image whose bitmaps cannot be read is refused for writing, before the first", () => {
  const spoil = (path: string, how: (view: DataView, entry: number) => void): void => {
    const bytes = readFileSync(path);
    how(new DataView(bytes.buffer, bytes.byteOffset), bytes.lastIndexOf("some-name") - 24);
    writeFileSync(path, bytes);
  };
  const longName = (view: DataView, entry: number): void => view.setUint16(entry + 18, 5000);
  const oneMore = (view: DataView): void => {
    let at = 112;
    while (view.getUint32(at) !== EXTENSION_BITMAPS) at += 8 + view.getUint32(at + 4);
    view.setUint32(at + 8, 2);
  };
  for (const how of [longName, oneMore]) {
    const path = create();
    must(["qemu-img", "bitmap", "--add", path, "some-name"]);
    spoil(path, how);
    expect(refusal(path)).toContain("the bitmap directory is shorter than its bitmaps");
    target.open(configOf(path, true)).close();
  }
});

testQemu("we refuse what qemu has open for writing, and share what it only reads", async () => {
  const path = create();
  const holdOpen = async (...options: string[]) => {
    const child = Bun.spawn(["qemu-io", "-f", "qcow2", ...options, path], {
      stdin: "pipe",
      stdout: "pipe",
    });
    child.stdin.write("length\n");
    await child.stdin.flush();
    await child.stdout.getReader().read(); // it answers when it has the image open
    return child;
  };
  const writer = await holdOpen();
  expect(refusal(path)).toContain("is in use");
  writer.stdin.end();
  await writer.exited;
  const reader = await holdOpen("-r");
  target.open(configOf(path, true)).close();
  expect(refusal(path)).toContain("is in use");
  reader.stdin.end();
  await reader.exited;
  target.open(configOf(path)).close();
});

testQemu("what cannot be served is refused by its name", () => {
  const unknown = create();
  poke(unknown, 79, 0x20);
  expect(refusal(unknown)).toContain("incompatible_features has what is not known here: bit 5");
  const corrupt = create();
  poke(corrupt, 79, 2);
  expect(refusal(corrupt)).toContain("marked as corrupt");
  target.open(configOf(corrupt, true)).close();
  const raw = folder("raw");
  writeFileSync(raw, new Uint8Array(65536));
  expect(refusal(raw)).toContain("has no qcow2 magic");
  const order = create();
  poke(order, 99, 7);
  expect(refusal(order)).toContain("refcount_order is 7");
  const bits = create();
  poke(bits, 23, 22);
  expect(refusal(bits)).toContain("cluster_bits is 22");
  const short = create();
  poke(short, 24, 0, 1);
  expect(refusal(short)).toContain("l1_size is 1; a disk of this size needs");
});

testQemu("the name of an unknown feature comes from the image", () => {
  const path = create();
  // The first entry of qemu's feature name table becomes bit 5 of the incompatible ones.
  const at = readFileSync(path).indexOf("dirty bit") - 2;
  poke(path, at, 0, 5, ...Buffer.from("time travel\0"));
  poke(path, 79, 0x20);
  expect(refusal(path)).toContain("bit 5 (time travel)");
});

testQemu("backing files that are not followed are named", () => {
  const base = create();
  const over = (name: string, format: string): string => {
    const path = folder(`over${made++}.qcow2`);
    must(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", format, path, "4M"]);
    return path;
  };
  expect(refusal(over("nbd://host/disk", "raw"))).toContain(
    "its backing file is 'nbd://host/disk'",
  );
  expect(refusal(over("json:{}", "raw"))).toContain("only plain file names are followed");
  expect(refusal(over(base, "vmdk"))).toContain("its backing file is 'vmdk', not raw or qcow2");
  expect(refusal(over("missing", "raw"))).toContain("ENOENT");
  const first = folder("first.qcow2");
  must([
    "qemu-img",
    "create",
    "-q",
    "-u",
    "-f",
    "qcow2",
    "-b",
    "first.qcow2",
    "-F",
    "qcow2",
    first,
    "4M",
  ]);
  expect(refusal(first)).toContain("is its own backing file");
  target.open(configOf(over(base, "qcow2"))).close();
  target.open(configOf(over(`file:${base}`, "qcow2"))).close();
});

testQemu("what is wrong with a file that nobody named is told with the image that names it", () => {
  const hintOf = (path: string): string => {
    try {
      target.open(configOf(path)).close();
    } catch (error) {
      return (error as SysError).hint ?? "";
    }
    throw new Error("it was opened");
  };
  const over = (path: string, name: string): string => {
    must(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "raw", path, "4M"]);
    return path;
  };
  const missing = over(folder("lacks.qcow2"), "missing.img");
  expect(hintOf(missing)).toBe(
    `it is the backing file of ${missing}; qemu-img rebase -u names another`,
  );
  must(["mkfifo", folder("a-fifo")]);
  const pipe = over(folder("piped.qcow2"), "a-fifo");
  expect(hintOf(pipe)).toStartWith(`it is the backing file of ${pipe}; give a regular file`);
  const middle = folder("middle.qcow2");
  const top = folder("top.qcow2");
  over(middle, "missing.img");
  must(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", middle, "-F", "qcow2", top, "4M"]);
  expect(hintOf(top)).toStartWith(`it is the backing file of ${middle}`);
  const split = folder("split.qcow2");
  must(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", split, "4M"]);
  rmSync(`${folder("data.raw")}`, { force: true });
  rmSync("data.raw", { force: true });
  expect(hintOf(split)).toBe(
    `it is the data file of ${split}; qemu-img amend -o data_file= names another`,
  );
});

testQemu("a number that no file has is shown as it stands there", () => {
  const path = create();
  poke(path, 40, ...Array.from({ length: 8 }, () => 0xff));
  expect(refusal(path)).toContain("l1_table_offset is 0xffffffffffffffff, larger than any file");
  const large = create();
  poke(large, 24, 0, 0x10, 0, 0, 0, 0, 2, 0);
  expect(refusal(large)).toContain(
    "size is 0x10000000000200: a disk of 2^52 bytes (4 PiB) is the largest that is served",
  );
});

/** Images one upon the other, each with an L1 table of 32 MiB that is a hole. */
function chainOfHoles(length: number, size: number): string {
  let path = "";
  for (let one = 0; one < length; one++) {
    const backing = path === "" ? [] : ["-b", path, "-F", "qcow2"];
    const options = ["-o", "cluster_size=512", ...backing];
    path = folder(`holes${made++}.qcow2`);
    must(["qemu-img", "create", "-q", "-f", "qcow2", ...options, path, "1M"]);
    const fields = Buffer.alloc(24);
    fields.writeBigUInt64BE(BigInt(size), 0);
    fields.writeUInt32BE((32 << 20) / 8, 12);
    fields.writeBigUInt64BE(BigInt(1 << 20), 16);
    poke(path, 24, ...fields);
    truncateSync(path, 33 << 20);
  }
  return path;
}

testQemu("of the L1 table of a backing file only what its size needs takes memory", () => {
  const rig = new Rig(chainOfHoles(12, 1 << 20));
  expect(rig.read(0, 512)).toEqual(Buffer.alloc(512));
  expect(rig.allocated).toBeLessThan(120 << 20);
  rig.close();
});

testQemu("the L1 tables of a chain have a bound together", () => {
  target.open(configOf(chainOfHoles(4, 2 ** 37), true)).close();
  const path = chainOfHoles(5, 2 ** 37);
  expect(refusal(path, true)).toContain(
    `${path}: the L1 tables of its chain take more than 128 MiB`,
  );
});

testQemu("a backing file without a byte shows zeros", () => {
  const empty = folder("empty-base.qcow2");
  must(["qemu-img", "create", "-q", "-f", "qcow2", empty, "0"]);
  const path = create("-b", empty, "-F", "qcow2");
  target.open(configOf(path)).close();
  const rig = new Rig(path);
  const bytes = new Uint8Array(512).fill(1);
  expect(rig.run([{ op: OP_WRITE, offset: 512, length: 512, bytes }])[0]!.result).toBe(512);
  expect(rig.read(0, 4096)).toEqual(
    Buffer.concat([Buffer.alloc(512), bytes, Buffer.alloc(4096 - 1024)]),
  );
  rig.close();
});

testQemu("a NUL at the end of a name, and a format without a name, are as if not there", () => {
  const base = folder("plain-base.raw");
  writeFileSync(base, new Uint8Array(1 << 20).fill(0x41));
  const made = (): string => create("-b", base, "-F", "raw");
  const served = (path: string): number => {
    const rig = new Rig(path);
    const [byte] = rig.read(0, 512);
    rig.close();
    return byte!;
  };
  const named = made();
  poke(named, 19, base.length + 1);
  expect(served(named)).toBe(0x41);
  const empty = made();
  const bytes = readFileSync(empty);
  const at = bytes.indexOf(Buffer.from([0xe2, 0x79, 0x2a, 0xca]));
  bytes.writeUInt32BE(0, at + 4);
  bytes.copyWithin(at + 8, at + 16, 4096);
  bytes.writeBigUInt64BE(bytes.readBigUInt64BE(8) - 8n, 8);
  writeFileSync(empty, bytes);
  expect(served(empty)).toBe(0x41);
});

testQemu(
  "a disk of no size is not served, and a backing file of an unnoted format not guessed",
  () => {
    const empty = folder("no-size.qcow2");
    must(["qemu-img", "create", "-q", "-f", "qcow2", empty, "0"]);
    expect(refusal(empty)).toContain("size is 0: there is no disk in it");
    const container = folder("container");
    writeFileSync(container, Buffer.concat([Buffer.from("KDMV"), new Uint8Array(65532)]));
    const path = create();
    // Without its extension the header does not say which format the backing file has.
    must(["qemu-img", "rebase", "-u", "-b", container, "-F", "raw", path]);
    poke(path, readFileSync(path).indexOf(Buffer.from([0xe2, 0x79, 0x2a, 0xca])), 0x11, 0x11);
    expect(refusal(path)).toContain(`${container}: has no qcow2 magic: it is VMDK`);
  },
);

testQemu("a backing file is where the file system says, behind symlinks too", () => {
  const at = (name: string): string => folder(`links/${name}`);
  mkdirSync(at("store/v2"), { recursive: true });
  symlinkSync("store/v2", at("current"));
  for (const [base, value] of [
    ["base.qcow2", 1],
    ["store/base.qcow2", 2],
  ]) {
    must(["qemu-img", "create", "-q", "-f", "qcow2", at(String(base)), "1M"]);
    must(["qemu-io", "-f", "qcow2", "-c", `write -P ${value} 0 64k`, at(String(base))]);
  }
  const backing = ["-b", "../base.qcow2", "-F", "qcow2"];
  const overlay = at("current/vm.qcow2");
  must(["qemu-img", "create", "-q", "-f", "qcow2", ...backing, overlay]);
  const rig = new Rig(overlay);
  const [answer] = rig.run([{ op: OP_READ, offset: 0, length: 4096 }]);
  rig.close();
  expect(answer!.bytes.every((byte) => byte === 2)).toBe(true);
  expect(contents(overlay)[0]).toBe(2);
});

testQemu("an encrypted image is never served as it is", () => {
  for (const [method, words] of [
    [1, "crypt_method is AES (legacy)"],
    [2, "crypt_method is LUKS without an encryption header"],
    [3, "crypt_method is 3"],
  ] as const) {
    const path = create();
    poke(path, 35, method);
    expect(refusal(path)).toContain(words);
    expect(refusal(path, true)).toContain(words);
  }
});

testQemu(
  "unknown autoclear bits go, and bitmaps are marked, with the first change and not before",
  () => {
    const path = create();
    must(["qemu-img", "bitmap", "--add", path, "b"]);
    poke(path, 88, 0x80);
    const flags = (): string => must(["qemu-img", "info", path]);
    const rig = new Rig(path);
    rig.read(0, 4096);
    expect(readFileSync(path)[88]).toBe(0x80);
    rig.run([{ op: OP_WRITE, offset: 0, length: 4096, bytes: new Uint8Array(4096) }]);
    expect(readFileSync(path)[88]).toBe(0);
    rig.close();
    expect(flags()).toContain("in-use");
    expect(run(["qemu-img", "check", path]).status).toBe(0);
  },
);

testQemu(
  "a bitmap that carries what we do not know stays as it is, and none counts any more",
  () => {
    const path = create();
    must(["qemu-img", "bitmap", "--add", path, "b"]);
    const at = headerOf(new Uint8Array(readFileSync(path))).bitmaps!.directoryOffset;
    // Eight bytes of extra data push the name on; the extension counts them.
    poke(path, at + 20, 0, 0, 0, 8);
    poke(path, at + 24, ...Array.from<number>({ length: 8 }).fill(7), 0x62);
    growDirectory(path, 8);
    truncateSync(path, at + 65536);
    const directory = (): Buffer => readFileSync(path).subarray(at, at + 64);
    const before = directory();
    const rig = new Rig(path);
    const write = { op: OP_WRITE, offset: 0, length: 4096, bytes: new Uint8Array(4096) };
    expect(rig.run([write])[0]!.result).toBe(4096);
    rig.close();
    expect(directory().equals(before)).toBe(true);
    expect(headerOf(new Uint8Array(readFileSync(path))).autoclearLow).toBe(0);
    expect(run(["qemu-img", "check", path]).output).not.toContain("ERROR");
  },
);

/** Of the one bitmaps extension that there is. */
function growDirectory(path: string, bytes: number): void {
  const view = new DataView(new Uint8Array(readFileSync(path)).buffer);
  let at = view.getUint32(100);
  while (view.getUint32(at) !== EXTENSION_BITMAPS)
    at += 8 + Math.ceil(view.getUint32(at + 4) / 8) * 8;
  const size = view.getUint32(at + 8 + 12) + bytes;
  poke(path, at + 8 + 15, size);
}

testQemu("a read-only image refuses every change and its file stays as it is", () => {
  const path = create();
  qemuIo(path, ["write -P 3 0 1M"]);
  const before = readFileSync(path);
  const rig = new Rig(path, { readOnly: true });
  const change = { offset: 0, length: 4096 };
  const answers = rig.run([
    { op: OP_WRITE, ...change, bytes: new Uint8Array(4096) },
    { op: OP_DISCARD, ...change },
    { op: OP_READ, ...change },
    { op: OP_FLUSH, offset: 0, length: 0 },
  ]);
  expect(answers.map(({ result }) => result)).toEqual([-30, -30, 4096, 0]);
  rig.close();
  expect(readFileSync(path).equals(before)).toBe(true);
});

testQemu(
  "a refcount that contradicts its table fences the image: no change more, and reads go on",
  () => {
    const path = create();
    qemuIo(path, ["write -P 3 0 1M"]);
    // The refcount of the first data cluster is lost: letting go of it contradicts its table.
    const rig = new Rig(path);
    const data = { offset: 0, length: 65536 };
    rig.run([{ op: OP_DISCARD, ...data }]);
    poke(path, 2 * 65536 + 2 * 5, ...Array.from<number>({ length: 64 }).fill(0));
    rig.run([{ op: OP_FLUSH, offset: 0, length: 0 }]);
    const write = { op: OP_WRITE, ...data, bytes: new Uint8Array(65536) };
    const read = { op: OP_READ, offset: 65536, length: 4096 };
    const answers = rig.run([write, read]);
    expect(answers.map(({ result }) => result)).toEqual([-5, 4096]);
    expect(rig.log).toHaveLength(1);
    expect(rig.log[0]).toContain("NO WRITE IS ACCEPTED ANY MORE");
    rig.close();
    rmSync(path);
  },
);

/** In a process of its own: what waits for a pipe hears of no timeout. */
function alone(expression: string, config: object): string {
  const module = join(import.meta.dir, "../../../targets/qcow2/target.ts");
  const script = `
    const { default: target } = await import(${JSON.stringify(module)});
    const config = ${JSON.stringify(config)};
    try { console.log(JSON.stringify(${expression}) ?? "undefined"); }
    catch (error) { console.log(error.message); }`;
  const command = [process.execPath, "-e", script];
  return Bun.spawnSync(command, { timeout: 30_000 }).stdout.toString().trim();
}

function pipe(): string {
  const path = folder(`pipe${made++}`);
  Bun.spawnSync(["mkfifo", path]);
  return path;
}

test("a pipe is not waited for, neither for its passphrase nor as an image", () => {
  const [image, key] = [pipe(), pipe()];
  expect(alone("target.question(config)", configOf(image))).toBe("undefined");
  const said = alone("target.files(config)", { ...configOf(image), key_file: key });
  expect(said).toBe(`open ${key}: is no file that can be read again`);
  expect(alone("target.open(config)", configOf(image))).toBe(`open ${image}: is no disk`);
});

testQemu("a pipe is not waited for where an image stands on it", () => {
  const below = pipe();
  const path = create("-u", "-b", below, "-F", "raw");
  expect(alone("target.open(config)", configOf(path))).toBe(`open ${below}: is no disk`);
  const data = folder(`data${made++}`);
  const other = create("-o", `data_file=${data}`);
  rmSync(data);
  Bun.spawnSync(["mkfifo", data]);
  expect(alone("target.open(config)", configOf(other))).toBe(`open ${data}: is no disk`);
});

testQemu("the files of an image are all that it stands on, and its key file is to be there", () => {
  const base = create();
  const [data, key] = [folder(`data${made++}`), folder(`key${made++}`)];
  const middle = create("-b", base, "-F", "qcow2");
  const top = create("-b", middle, "-F", "qcow2");
  expect(target.files!(configOf(top))).toEqual([top, middle, base]);
  const apart = create("-o", `data_file=${data}`);
  expect(target.files!(configOf(apart))).toEqual([apart, data]);
  const open = target.open(configOf(top));
  expect(target.files!(configOf(top))).toEqual([top, middle, base]); // also while it is served
  open.close();
  const keyed = { ...configOf(top), key_file: key };
  expect(String(thrown(() => target.files!(keyed)))).toContain(`open ${key}: ENOENT`);
  poke(top, 79, 2); // incompatible_features: corrupt
  expect(String(thrown(() => target.files!(configOf(top))))).toContain("is marked as corrupt");
  expect(target.files!(configOf(top, true))).toHaveLength(3);
  rmSync(base);
  expect(String(thrown(() => target.files!(configOf(top, true))))).toContain(
    `open ${base}: ENOENT`,
  );
});
