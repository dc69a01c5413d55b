// Goal: what docs/ci.md recommends works as it stands there, and leaves no device behind.
// Method: the code blocks are taken from the page. Scripts run as they are; steps of a workflow by
//   the rules of the service; the unit by systemd.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { story, type Vm } from "./story.ts";

const PAGE = await Bun.file(join(import.meta.dir, "../../docs/ci.md")).text();
const used = new Set<string>();

/** The code block of a language under a heading. */
function recipe(heading: string, language: string): string {
  const section = PAGE.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  const block = new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, "m").exec(section ?? "")?.[1];
  if (block === undefined) throw new Error(`docs/ci.md has no ${language} under ${heading}`);
  used.add(block);
  return block;
}

const LINES = recipe("One line", "sh");
const SCRIPT = recipe("A script that always deletes", "sh");
const WORKFLOW = recipe("Steps of a workflow", "yaml");
const UNIT = recipe("A service of systemd", "ini");

test("every recipe of the page is one that is run here", () => {
  const blocks = [...PAGE.matchAll(/^```\w+\n([^]*?)^```$/gm)].map((match) => match[1]!);
  expect(blocks.filter((block) => !used.has(block))).toEqual([]);
});

const nothingIsLeft = async (vm: Vm): Promise<void> => {
  expect(await vm.sh`ublk list; ls /dev | grep ublk[bc] || :`).toBe("");
};

story("one line makes a disk of an image for as long as a command runs", {}, async (vm) => {
  const dir = `${vm.data}/line`;
  await vm.sh`mkdir -p ${dir}/src && echo words > ${dir}/src/file && truncate -s 64M ${dir}/disk.img`;
  await vm.write(`${dir}/lines.sh`, LINES);
  await vm.sh`cd ${dir} && sh -e lines.sh`;
  await nothingIsLeft(vm);
  expect(await vm.sh`debugfs -R 'cat /src/file' ${dir}/disk.img 2>/dev/null`).toBe("words");
  expect((await vm.run`ublk run -t loop -f ${dir}/disk.img -- sh -c 'exit 7'`).status).toBe(7);
  await nothingIsLeft(vm);
});

story("the script fills an image and leaves no device", {}, async (vm) => {
  const [dir, image] = [`${vm.data}/script`, `${vm.data}/script/disk.qcow2`];
  await vm.sh`mkdir -p ${dir} && qemu-img create -q -f qcow2 ${image} 256M`;
  await vm.write(`${dir}/fill.sh`, SCRIPT);
  await vm.sh`sh ${dir}/fill.sh ${image} /etc`;
  await nothingIsLeft(vm);
  const id = await vm.add`-t qcow2 -f ${image} --read-only`;
  await vm.sh`mkdir -p /mnt/ci && mount -o ro /dev/ublkb${id} /mnt/ci`;
  await vm.sh`test -f /mnt/ci/passwd && umount /mnt/ci && ublk del -n ${id}`;
});

interface Step {
  name: string;
  run: string;
  if?: string;
}

/** As the service does: `bash -e`, and after a failure only what is marked. */
async function runSteps(vm: Vm, dir: string): Promise<string[]> {
  const { steps } = Bun.YAML.parse(WORKFLOW) as { steps: Step[] };
  const outcomes: string[] = [];
  for (const { name, run, if: when } of steps) {
    if (outcomes.includes("failure") && when !== "always()") {
      outcomes.push("skipped");
      continue;
    }
    await vm.write(`${dir}/step.sh`, run);
    const { status } = await vm.run`cd ${dir} && PATH=${dir}/bin:$PATH bash -e step.sh`;
    outcomes.push(status === 0 ? "success" : "failure");
    expect(name).not.toBe("");
  }
  return outcomes;
}

story("the steps of a workflow make a disk and delete it, also when one fails", {}, async (vm) => {
  const dir = `${vm.data}/workflow`;
  await vm.sh`mkdir -p ${dir}/bin ${dir}/src && echo words > ${dir}/src/file`;
  await vm.write(`${dir}/bin/sudo`, '#!/bin/sh\nexec "$@"\n'); // we are root already
  await vm.sh`chmod +x ${dir}/bin/sudo`;
  expect(await runSteps(vm, dir)).toEqual(["success", "success", "success"]);
  await nothingIsLeft(vm);
  expect(await vm.sh`debugfs -R 'cat /src/file' ${dir}/disk.img 2>/dev/null`).toBe("words");

  await vm.sh`rm -r ${dir}/src`;
  expect(await runSteps(vm, dir)).toEqual(["success", "failure", "success"]);
  await nothingIsLeft(vm);
});

story("systemd keeps the disk as a service", {}, async (vm) => {
  const runtime = "/run/user/0";
  await vm.sh`mkdir -p -m 700 ${runtime}/systemd/user && mkdir -p /srv`;
  await vm.write(`${runtime}/systemd/user/disk.service`, UNIT);
  await vm.sh`qemu-img create -q -f qcow2 /srv/disk.qcow2 64M`;
  // A manager that is not the first process takes the same units, if it believes in the first.
  await vm.sh`mkdir -p /run/systemd/system`;
  const manager = vm.start`XDG_RUNTIME_DIR=${runtime} exec /lib/systemd/systemd --user`;
  const systemctl = `XDG_RUNTIME_DIR=${runtime} systemctl --user`;
  await vm.write("/run/systemctl", `#!/bin/sh\n${systemctl} "$@"\n`);
  await vm.sh`until [ -S ${runtime}/systemd/private ]; do sleep 0.2; done`;
  const ctl = (words: string) => vm.sh(`sh /run/systemctl ${words}`);
  await ctl("start disk.service");
  await vm.sh`test -b /dev/ublkb5 && mkfs.ext4 -q /dev/ublkb5`;
  expect(await ctl("is-active disk.service")).toBe("active");
  await ctl("stop disk.service");
  await nothingIsLeft(vm);
  await vm.sh`ublk check /srv/disk.qcow2 && rm /srv/disk.qcow2`;
  await manager.signal("TERM");
  await manager.wait();
  await vm.sh`rm -r /run/systemd/system ${runtime}`;
});
