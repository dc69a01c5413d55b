/** src/target/image_lock.ts: two openers of one image, and qemu as the judge. */

import { beforeAll, describe, expect, test } from "bun:test";
import { SysError } from "../../../ffi/errno.ts";
import * as libc from "../../../ffi/libc.ts";
import { lockImage } from "../../../src/target/image_lock.ts";
import { fileOf, tempFolder, thrown } from "../../temp.ts";

const path = tempFolder();
let image = fileOf(path("image"), 1 << 20);

/** Opens the image and locks it; what `use` does happens under that lock. */
function holding<T>(readOnly: boolean, use: () => T): T {
  const fd = libc.open(image, readOnly ? libc.O_RDONLY : libc.O_RDWR);
  try {
    lockImage(fd, image, readOnly);
    return use();
  } finally {
    libc.close(fd);
  }
}

const open = (readOnly: boolean): void => holding(readOnly, () => {});

describe("two openers", () => {
  test.each([
    { first: "a writer", second: "a writer" },
    { first: "a writer", second: "a reader" },
    { first: "a reader", second: "a writer" },
  ])("$first refuses $second", ({ first, second }) => {
    const error = thrown(() => holding(first === "a reader", () => open(second === "a reader")));
    expect(error).toBeInstanceOf(SysError);
    expect((error as SysError).message).toContain(`lock ${image}: is in use`);
    expect((error as SysError).hint).toContain("--read-only");
  });

  test("readers share", () => {
    holding(true, () => open(true));
  });

  test("the lock goes with the descriptor, and a refused opener leaves none behind", () => {
    thrown(() => holding(true, () => open(false)));
    open(false);
    open(false);
  });

  test("the lock stays while another name of the descriptor is open", () => {
    const fd = libc.open(image, libc.O_RDWR);
    lockImage(fd, image, false);
    const other = libc.open("/dev/null", libc.O_RDWR);
    libc.dup2(fd, other);
    libc.close(fd);
    expect(thrown(() => open(false))).toBeInstanceOf(SysError);
    libc.close(other);
    open(false);
  });
});

test("a lock on the whole file, which no qemu takes, stands against it", () => {
  const fd = libc.open(image, libc.O_RDWR);
  const exclusive = new Uint8Array(new ArrayBuffer(32)); // struct flock: from 0, to the end
  exclusive[0] = 1;
  libc.fcntl(fd, 37, exclusive, "fcntl F_OFD_SETLK");
  expect(thrown(() => open(true))).toMatchObject({ op: "lock", subject: image });
  libc.close(fd);
  open(true);
});

test("a file whose file system knows no locks is named, with a way on", () => {
  const fd = libc.open(image, libc.O_PATH); // which cannot be locked either
  const error = thrown(() => lockImage(fd, image, true)) as SysError;
  expect(error.message).toStartWith(`fcntl F_OFD_SETLK ${image}: EBADF`);
  expect(error.hint).toContain("on NFS start the lock service");
  libc.close(fd);
});

const missing = Bun.which("qemu-io") === null ? " (there is no qemu-io)" : "";

/** qemu's own format: raw images it lets others change while it only reads them. */
describe.skipIf(missing !== "")(`qemu-io on a qcow2 image${missing}`, () => {
  beforeAll(() => {
    image = path("image.qcow2");
    Bun.spawnSync(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"]);
  });

  const qemuIo = (...options: string[]): { ok: boolean; said: string } => {
    const command = ["qemu-io", "-f", "qcow2", ...options, "-c", "read 0 512", image];
    const child = Bun.spawnSync(command);
    const said = `${child.stdout}${child.stderr}`;
    return { ok: child.exitCode === 0 && said.includes("read 512/512"), said };
  };

  test("is refused while we write", () => {
    const { ok, said } = holding(false, () => qemuIo());
    expect(ok).toBe(false);
    expect(said).toMatch(/Failed to get .*lock/);
    expect(holding(false, () => qemuIo("-r")).ok).toBe(false);
  });

  test("may read while we read, and not write", () => {
    expect(holding(true, () => qemuIo("-r")).ok).toBe(true);
    expect(holding(true, () => qemuIo()).said).toMatch(/Failed to get .*lock/);
  });

  test("may do all it wants when we are gone", () => {
    open(false);
    expect(qemuIo().ok).toBe(true);
  });

  test.each([
    { mode: "writes", options: [], reader: false },
    { mode: "reads", options: ["-r"], reader: true },
  ])("that $mode keeps us out as far as it must", async ({ options, reader }) => {
    const child = Bun.spawn(["qemu-io", "-f", "qcow2", ...options, image], {
      stdin: "pipe",
      stdout: "pipe",
    });
    child.stdin.write("read 0 512\n");
    void child.stdin.flush();
    await untilSaid(child.stdout, "read 512/512");
    expect(thrown(() => open(false))).toBeInstanceOf(SysError);
    if (reader) open(true);
    else expect(thrown(() => open(true))).toBeInstanceOf(SysError);
    void child.stdin.end();
    await child.exited;
    open(false);
  });
});

/** It has opened the image once it answers. */
async function untilSaid(stream: ReadableStream<Uint8Array>, words: string): Promise<void> {
  let said = "";
  for await (const chunk of stream) {
    said += Buffer.from(chunk).toString();
    if (said.includes(words)) return;
  }
  throw new Error(`ended without a word of '${words}': ${said}`);
}
