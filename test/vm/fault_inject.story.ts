// Goal: a disk can be made slow, bad or dead on purpose, and whoever stands on it sees just that.
// Method: fault_inject with each of its faults; dd and fio look at the device, del ends it, dead
// or alive.

import { expect } from "bun:test";
import { raw, story, type Vm } from "./story.ts";

const SIZE = 64 << 20;

/** Result of reading one block: "" or what dd complains of. */
const readBlock = async (vm: Vm, sector: number): Promise<string> => {
  const how = "bs=512 count=1 iflag=direct status=none of=/dev/null";
  return (await vm.run`dd if=/dev/ublkb0 ${raw(how)} skip=${sector}`).stderr;
};

story(
  "sectors are bad where they were said to be, and the error is the one asked for",
  {},
  async (vm) => {
    const image = `${vm.data}/f.img`;
    await vm.sh`rm -f ${image}; truncate -s ${SIZE} ${image}`;
    await vm.add`-t fault_inject -f ${image} --error-sectors 2048-2055 --errno ENOSPC`;
    expect(await readBlock(vm, 2047)).toBe("");
    expect(await readBlock(vm, 2048)).toContain("No space left on device");
    expect(await readBlock(vm, 2055)).toContain("No space left on device");
    expect(await readBlock(vm, 2056)).toBe("");
    // What is not bad keeps its data, in the file too.
    await vm.sh`printf kept | dd of=/dev/ublkb0 bs=4k seek=1 conv=sync,fsync oflag=direct status=none`;
    await vm.sh`ublk del -n 0`;
    expect(await vm.sh`dd if=${image} bs=4k skip=1 count=1 status=none | head -c 4`).toBe("kept");

    await vm.add`-t fault_inject --size 64M --error-rate 10% --error-ops read`;
    const errors: string[] = [];
    for (let round = 0; round < 2; round++) {
      const fio =
        "--rw=randread --bs=4k --number_ios=1000 --direct=1 --continue_on_error=all --randseed=1";
      const text =
        await vm.run`fio --name=r --filename=/dev/ublkb0 ${raw(fio)} --output-format=json`;
      errors.push(/"total_err" : (\d+)/.exec(text.stdout)?.[1] ?? text.stderr);
    }
    for (const count of errors.map(Number)) {
      expect(count).toBeGreaterThan(60);
      expect(count).toBeLessThan(140);
    }
    await vm.sh`dd if=/dev/zero of=/dev/ublkb0 bs=1M count=8 oflag=direct status=none`;
    await vm.sh`ublk del -n 0`;
  },
);

story("requests are as slow as they were said to be", {}, async (vm) => {
  const delays = "read=50000,flush=200000";
  await vm.add`-t fault_inject --size 64M --delay-us ${delays} -q 2`;
  const timed = async (command: string): Promise<number> => {
    const begin = "exec 3< /proc/uptime; read -r a _ <&3";
    const end = "exec 3< /proc/uptime; read -r b _ <&3";
    return (
      Number(
        await vm.sh`${raw(`${begin}; ${command}; ${end}; echo $((10#\${b/.} - 10#\${a/.}))`)}`,
      ) * 10
    );
  };
  const copy = "bs=4k status=none";
  const reads = await timed(`dd if=/dev/ublkb0 of=/dev/null iflag=direct count=20 ${copy}`);
  const write = `dd if=/dev/zero of=/dev/ublkb0 oflag=direct count=20 ${copy}`;
  // The least of three: if they were late, each of them would be.
  const writes = Math.min(await timed(write), await timed(write), await timed(write));
  const flush = await timed(`dd if=/dev/zero of=/dev/ublkb0 count=1 conv=fsync ${copy}`);
  console.log(`20 reads, each 50 ms late: ${reads} ms; 20 writes: ${writes}; a flush: ${flush}`);
  expect(reads).toBeGreaterThanOrEqual(1000);
  expect(writes).toBeLessThan(1000);
  expect(flush).toBeGreaterThanOrEqual(200);
  await vm.sh`ublk del -n 0`;
});

const DEATHS: [point: string, starts: boolean][] = [
  ["before-fetch", false],
  ["in-start", false],
  ["between-fetch-and-commit:60", true],
  ["before-commit:60", true],
];

story(
  "wherever a server kills itself, its device can be deleted and added again",
  {},
  async (vm) => {
    const image = `${vm.data}/d.img`;
    await vm.sh`rm -f ${image}; truncate -s ${SIZE} ${image}`;
    for (const [point, starts] of DEATHS) {
      const added = await vm.run`ublk add -n 0 -t fault_inject -f ${image} --die ${point}`;
      if (starts) {
        expect(added.status, `${point}: ${added.stderr}`).toBe(0);
        const write = await vm.run`dd if=/dev/zero of=/dev/ublkb0 bs=4k count=100 oflag=direct`;
        expect(write.status, point).not.toBe(0);
      } else {
        expect(added.status, point).toBe(1);
        expect(added.stderr).toContain("ended with SIGKILL before it was ready");
      }
      await vm.becomes(0, "DEAD", 60_000);
      expect(await vm.sh`ublk del -n 0`, point).toBe("");
      expect(await vm.sh`ls -A /run/ublk 2>/dev/null || true; ublk list`, point).toBe("");
    }
  },
);
