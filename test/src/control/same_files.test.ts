/** src/control/same_files.ts: what a server has open is compared with what has the name now. */

import { describe, expect, test } from "bun:test";
import { fstatSync, linkSync, openSync, renameSync, rmSync } from "node:fs";
import { SysError } from "../../../ffi/errno.ts";
import { filesOf, isSameFile, refuseOtherFiles } from "../../../src/control/same_files.ts";
import loop from "../../../targets/loop.ts";
import nothing from "../../../targets/null.ts";
import { fileOf, tempFolder, thrown } from "../../temp.ts";

const path = tempFolder();
let made = 0;
const ME = { dev_id: 3, ublksrv_pid: process.pid };
/** No process has so high a number. */
const NOBODY = { dev_id: 3, ublksrv_pid: 2 ** 22 + 1 };

/** A file that this process, the server here, has open. */
function held(): string {
  const name = fileOf(path(`held${made++}`), 4096);
  openSync(name, "r");
  return name;
}

function refusal(served: typeof ME, ...paths: string[]): SysError {
  const error = thrown(() => refuseOtherFiles(served, () => paths));
  if (error instanceof SysError) return error;
  throw error;
}

describe("a server's files", () => {
  test("are the same where they were, and under another name of theirs", () => {
    const [one, two] = [held(), held()];
    refuseOtherFiles(ME, () => [one, two]);
    linkSync(one, `${one}.link`);
    refuseOtherFiles(ME, () => [`${one}.link`]);
  });

  test("are missed when one is gone or was moved away", () => {
    for (const act of [
      (name: string) => rmSync(name),
      (name: string) => renameSync(name, `${name}.x`),
    ]) {
      const [one, two] = [held(), held()];
      act(two);
      const error = refusal(ME, one, two);
      expect(error.message).toStartWith(`open ${two}: ENOENT`);
      expect(error.hint).toContain("its server goes on");
    }
  });

  test("are missed when another file has the name", () => {
    const name = held();
    renameSync(fileOf(`${name}.new`, 4096), name);
    const error = refusal(ME, name);
    expect(error.message).toBe(
      `upgrade device 3: ${name} is not the file that its server has open`,
    );
    expect(error.hint).toContain("its server goes on");
  });

  test("have to be there, where nobody may look what it has open", () => {
    refuseOtherFiles(NOBODY, () => [fileOf(path("other"), 4096)]);
    expect(refusal(NOBODY, path("none")).message).toContain("ENOENT");
    const pipe = path("pipe");
    Bun.spawnSync(["mkfifo", pipe]);
    refuseOtherFiles(NOBODY, () => [pipe]); // and it is not waited for
  });
});

test("what a target says of an image that it cannot look at comes with a way on", () => {
  const error = thrown(() =>
    refuseOtherFiles(ME, () => {
      throw new SysError({ op: "qcow2", errno: 0, subject: "/a", reason: "is torn" });
    }),
  ) as SysError;
  expect(error.message).toBe("qcow2 /a: is torn");
  expect(error.hint).toContain("its server goes on");
});

test("a loop disk has one file, a null disk none", () => {
  const config = loop.configure({ file: "/a.img" });
  expect(loop.files?.(config)).toEqual(["/a.img"]);
  expect(nothing.files).toBeUndefined();
});

test("a disk's files are noted by their numbers: each once, in the order of its descriptors", () => {
  const name = held();
  linkSync(name, `${name}.link`);
  const [one, again, two] = [name, `${name}.link`, held()].map((file) => openSync(file, "r"));
  const { dev, ino } = fstatSync(one!, { bigint: true });
  expect(filesOf([one!])).toEqual([`file ${dev} ${ino}`]);
  expect(filesOf([two!, one!, again!, two!])).toEqual([...filesOf([two!]), ...filesOf([one!])]);
  expect(filesOf([])).toEqual([]);
});

/** As the C library packs them. */
const DISK = 0x801;
const MOUNT = 0x31;
const MANY_MOUNTS = 0x100031;

test.each([
  ["the same file", `file ${DISK} 7`, `file ${DISK} 7`, true],
  ["another file", `file ${DISK} 7`, `file ${DISK} 8`, false],
  ["that number on another disk", `file ${DISK} 7`, `file ${DISK + 1} 7`, false],
  ["that number where a mount has none", `file ${DISK} 7`, `file ${MOUNT} 7`, false],
  ["the same file in another mount", `file ${MOUNT} 7`, `file ${MANY_MOUNTS} 7`, true],
  ["another file in another mount", `file ${MOUNT} 7`, `file ${MANY_MOUNTS} 8`, false],
  ["any file where numbers do not last", "passing 49 7", "passing 49 8", true],
  ["a file that was moved from there", "passing 49 7", `file ${DISK} 7`, false],
  ["the same block device", "block 2049", "block 2049", true],
  ["another block device", "block 2049", "block 2050", false],
  ["a block device, not a file", "block 49", "file 49 49", false],
])("%s", (_, one, other, same) => {
  expect([isSameFile(one, other), isSameFile(other, one)]).toEqual([same, same]);
});
