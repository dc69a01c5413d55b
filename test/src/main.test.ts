/** src/main.ts as a process: exit codes, one clear line, and help that is complete. */

import { describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { verbTable } from "../../src/cli/verbs.ts";
import { targets } from "../../targets/index.ts";
import { version } from "../../package.json" with { type: "json" };
import { tempFolder } from "../temp.ts";

const folder = tempFolder();
const MAIN = join(import.meta.dir, "../../src/main.ts");

/** One that hangs is killed, and has no exit code then. */
const PATIENCE_MS = 15_000;

function ublk(line: string, env: Record<string, string> = {}) {
  const words = line === "" ? [] : line.split(" ");
  const child = Bun.spawnSync([process.execPath, MAIN, ...words], {
    env: { ...process.env, ...env },
    stdin: "ignore",
    timeout: PATIENCE_MS,
  });
  return { code: child.exitCode, out: child.stdout.toString(), err: child.stderr.toString() };
}

const ADD = "ublk add --help";

describe("a usage error is one line, a way on, and exit code 2:", () => {
  test.each([
    ["nosuch", "ublk: no verb 'nosuch': there are add, ", "ublk --help"],
    ["lsit", "ublk: no verb 'lsit': did you mean list?", "ublk --help"],
    ["toString", "ublk: no verb 'toString'", "ublk --help"],
    ["help nosuch", "ublk: no verb 'nosuch'", "ublk --help"],
    ["add", "ublk add: say what kind of disk", "ublk add --help"],
    ["add -t", "ublk add: option '-t, --type <value>' argument missing", "ublk add --help"],
    ["add -t nosuch", "ublk add: -t 'nosuch': there is no such type", "ublk add --help"],
    ["add -t null --bogus", "ublk add: unknown option '--bogus'", "ublk add --help"],
    ["add -t null --qeues 2", "ublk add: unknown option '--qeues': did you mean --queues?", ADD],
    ["add -t qcow", "ublk add: -t 'qcow': there is no such type: did you mean qcow2?", ADD],
    ["stat -i 0", "ublk stat: --interval '0': give seconds", "ublk stat --help"],
    ["stat -i 1e9", "ublk stat: --interval '1e9': give seconds", "ublk stat --help"],
    ["stat -i 1 -c 1.5", "ublk stat: --count '1.5': give a whole number", "ublk stat --help"],
    ["stat -c 3", "ublk stat: --count needs --interval", "ublk stat --help"],
    ["stop -n 9999999999", "ublk stop: -n '9999999999': give a device", "ublk stop --help"],
    ["add -f a.img", "ublk add: say what kind of disk: -t TYPE", "ublk add --help"],
    ["add --bogus", "ublk add: unknown option '--bogus'", "ublk add --help"],
    ["daemon", "ublk: no verb 'daemon'", "ublk --help"],
    ["daemon {}", "ublk: no verb 'daemon'", "ublk --help"],
    ["supervise x", "ublk: no verb 'supervise'", "ublk --help"],
    ["tied", "ublk: no verb 'tied'", "ublk --help"],
    ["end x", "ublk: no verb 'end'", "ublk --help"],
    ["info -dash.img", "ublk info: unknown option '-d'", "ublk info --help"],
    ["stat --histogram --metrics -", "ublk stat: --metrics has a format", "ublk stat --help"],
    ["top", "ublk top: top needs a terminal", "ublk top --help"],
    ["top -i x", "ublk top: --interval 'x'", "ublk top --help"],
    ["run -t null", "ublk run: say what to run", "ublk run --help"],
    ["run -- true", "ublk run: say what kind of disk", "ublk run --help"],
    [
      "run -t null --supervise -- true",
      "ublk run: unknown option '--supervise'",
      "ublk run --help",
    ],
    ["run -t null -q 0 -- true", "ublk run: --queues '0'", "ublk run --help"],
    ["add -t null word", "ublk add: unexpected word 'word'", "ublk add --help"],
    ["add -t null -q 0", "ublk add: --queues '0'", "ublk add --help"],
    ["add -zt loop", "ublk add: -t loop needs -f FILE", "ublk add --help"],
    ["add -t null --supervise --foreground", "ublk add: --supervise and --f", "ublk add --help"],
    ["add -t null --or-recover", "ublk add: --or-recover: say which", "ublk add --help"],
    ["unit here", "ublk unit: unexpected word 'here'", "ublk unit --help"],
    ["del", "ublk del: say which device", "ublk del --help"],
    ["del -n 0 -a", "ublk del: -n and -a exclude each other", "ublk del --help"],
    ["del -n x", "ublk del: -n 'x'", "ublk del --help"],
    ["list extra", "ublk list: unexpected word 'extra'", "ublk list --help"],
    ["set_affinity -n 0", "ublk set_affinity: say which device", "ublk set_affinity --help"],
    ["info", "ublk info: which image?", "ublk info --help"],
    ["info --bogus a", "ublk info: unknown option '--bogus'", "ublk info --help"],
    ["features --json", "ublk features: unknown option '--json'", "ublk features --help"],
  ])("'%s'", (line, message, way) => {
    const { code, out, err } = ublk(line);
    const lines = err.trimEnd().split("\n");
    expect([code, out, lines.length]).toEqual([2, "", 2]);
    expect(lines[0]).toStartWith(message);
    expect(lines[1]).toBe(`       try: ${way}`);
  });
});

test("without a word it says what most people want, and that this was not it", () => {
  const { code, out, err } = ublk("");
  expect([code, out]).toEqual([2, ""]);
  for (const line of ["ublk add -t qcow2 -f", "ublk list", "ublk del -n 0", "ublk help"]) {
    expect(err).toContain(line);
  }
  expect(err.trimEnd().split("\n").length).toBeLessThan(10);
});

test("a command that is not there is 127, and no device is made for it", () => {
  const { code, err } = ublk("run -t null -- no-such-command");
  expect([code, err]).toEqual([127, "ublk run: no-such-command: command not found\n"]);
});

test.each(["--version", "list", "check a.img"])("'%s' without a C library says so", (line) => {
  const { code, out, err } = ublk(line, { BUN_JSC_useJIT: "0" });
  expect([code, out]).toEqual([1, ""]);
  expect(err).toMatch(/^ublk[^:]*: load libc\.so\.6: bun:ffi requires the JIT\n[^\n]+\n$/);
});

test("a file that is no program is 126, wherever it was looked for", () => {
  writeFileSync(folder("no-program"), "");
  const why = "is there, but is no program";
  const found = ublk(`run -t null -- ${folder("no-program")}`);
  expect([found.code, found.err]).toEqual([126, `ublk run: ${folder("no-program")}: ${why}\n`]);
  const byName = ublk("run -t null -- no-program", { PATH: `/nowhere:${folder("")}` });
  expect([byName.code, byName.err]).toEqual([126, `ublk run: no-program: ${why}\n`]);
});

describe("what goes wrong in the server in the foreground is said as by the verb:", () => {
  const why = "open /nowhere/a.img: ENOENT (no such file or directory)";
  test.each([
    "run -t loop -f /nowhere/a.img -- true",
    "run -t loop -f /nowhere/a.img -- ls --json",
    "run -t loop -f/nowhere/a.img -- true",
  ])("'%s'", (line) => {
    const { code, out, err } = ublk(line);
    expect([code, out, err.split("\n")[0]]).toEqual([1, "", `ublk run: ${why}`]);
  });

  test("'add --foreground', in either manner", () => {
    const line = "add -t loop -f /nowhere/a.img --foreground";
    const { code, out, err } = ublk(line);
    expect([code, out, err.split("\n")[0]]).toEqual([1, "", `ublk add: ${why}`]);
    const { error } = JSON.parse(ublk(`${line} --json`).err);
    expect(error).toMatchObject({ verb: "add", kind: "system", op: "open", exit_code: 1 });
  });
});

test.each(["unit", "udev-rules"])("'%s' does not name the runtime as the program", (line) => {
  const { code, out, err } = ublk(line);
  expect([code, out]).toEqual([1, ""]);
  expect(err).toMatch(
    /^ublk [^:]+: program \S+: is the runtime[^\n]*\n +install it first[^\n]*\n$/,
  );
});

test("a file may begin with a hyphen behind --", () => {
  const { code, err } = ublk("info -- -dash.img");
  expect(code).toBe(1);
  expect(err).toStartWith(`ublk info: open ${process.cwd()}/-dash.img: ENOENT`);
});

test("help of add without a type says where the options of the types are", () => {
  expect(ublk("add --help").out).toContain("ublk help -t TYPE");
  expect(ublk("add -t null --help").out).not.toContain("ublk help -t TYPE");
});

test("a device that nobody counts is named, with a way on", () => {
  const { code, err } = ublk("stat -n 1048575");
  expect(code).toBe(1);
  expect(err).toStartWith("ublk stat: stat device 1048575: is not there");
  expect(err).toContain("ublk list");
});

test("a tied server asks whether its parent is the one that started it, be that process 1", () => {
  expect(ublk("tied 1 -t nosuch")).toEqual({ code: 1, out: "", err: "" });
  const { code, err } = ublk(`tied ${process.pid} -t nosuch`);
  expect([code, err.split(":")[1]]).toEqual([2, " -t 'nosuch'"]);
});

test("what follows -- is the command's, its --help too", () => {
  const { err } = ublk("run -t nosuch -- ls --help");
  expect(err).toStartWith("ublk run: -t 'nosuch'");
});

test("for check, as for qemu-img check, 1 means that it was not looked at", () => {
  expect([ublk("check").code, ublk("check /nowhere/a.img").code]).toEqual([1, 1]);
});

test.each(["info", "check", "add -t loop -f", "add -t qcow2 -f"])(
  "'%s' of a pipe is told that it is no disk, and does not wait for it",
  (line) => {
    const pipe = folder(`pipe of ${line}`.replaceAll(" ", "_"));
    Bun.spawnSync(["mkfifo", pipe]);
    const { code, out, err } = ublk(`${line} ${pipe}`);
    expect([code, out]).toEqual([1, ""]);
    const [first, second, ...rest] = err.trimEnd().split("\n");
    expect(first).toBe(`ublk ${line.split(" ")[0]}: open ${pipe}: is no disk`);
    expect([second, rest]).toEqual(["       give a regular file or a block device", []]);
  },
);

test.each(["--version", "help", "man"])("'%s' that cannot be written is a plain error", (line) => {
  const command = `exec "$0" "$1" ${line} > /dev/full`;
  const { exitCode, stderr } = Bun.spawnSync(["sh", "-c", command, process.execPath, MAIN]);
  expect(exitCode).toBe(1);
  expect(stderr.toString()).toMatch(/^ublk[^:]*: write standard output: ENOSPC [^\n]*\n$/);
});

test.each([
  ["run -t null -- nosuch", 127],
  ["check /nowhere/a.img", 1],
  ["nosuch", 2],
])("'%s' ends as it would if what it says could be written", (line, status) => {
  for (const stderr of ["/dev/full", "&-"]) {
    const command = `exec "$0" "$1" ${line} 2>${stderr}`;
    const child = Bun.spawnSync(["sh", "-c", command, process.execPath, MAIN]);
    expect([child.exitCode, child.stdout.toString()]).toEqual([status, ""]);
  }
});

describe.skipIf(existsSync("/dev/ublk-control"))("without the driver (it is loaded here)", () => {
  test("'list --json' is told so as JSON", () => {
    const { code, out, err } = ublk("list --json");
    expect([code, out]).toEqual([1, ""]);
    expect(JSON.parse(err).error).toMatchObject({ verb: "list", errno: "ENOENT", exit_code: 1 });
  });

  test.each(["list", "features", "del -n 0", "add -t null"])("'%s'", (line) => {
    const { code, out, err } = ublk(line);
    const verb = line.split(" ")[0]!;
    expect([code, out]).toEqual([1, ""]);
    expect(err).toStartWith(`ublk ${verb}: open /dev/ublk-control: ENOENT`);
    expect(err).toContain("modprobe ublk_drv");
    expect(err.trimEnd().split("\n")).toHaveLength(2);
  });

  test("a missing backing file is told before a missing driver", () => {
    const { code, err } = ublk("add -t loop -f /nowhere/a.img");
    expect(code).toBe(1);
    expect(err).toStartWith("ublk add: open /nowhere/a.img: ENOENT");
  });
});

describe("help", () => {
  const table = verbTable(targets, version);
  const lines = [...Object.keys(table), ...Object.keys(targets).map((type) => `add -t ${type}`)];
  const verbs = lines.map((line) => {
    const [verb, ...argv] = line.split(" ");
    return { line, verb: table[verb!]!, argv };
  });

  test.each(verbs)("of '$line' lists each of its options", async ({ line, verb, argv }) => {
    const { code, out, err } = ublk(`${line} --help`);
    expect([code, err]).toEqual([0, ""]);
    const args = await ((await verb.load(argv)).args ?? {});
    for (const [name, { alias, description }] of Object.entries(args as Args)) {
      expect(out).toContain(alias === undefined ? `--${name}` : `-${alias}, --${name}`);
      expect(out).toContain(description);
    }
    expect(out).toContain(`EXAMPLES\n\n  ublk ${line}`);
    for (const word of verb.words?.split(" ") ?? []) expect(out).toContain(word);
  });

  test("a type alone means add", () => {
    expect(ublk("help -t qcow2").out).toBe(ublk("add -t qcow2 --help").out);
    expect(ublk("help -t qcow2").out).toBe(ublk("help add -t qcow2").out);
    expect(ublk("help -t qcow2").out).toContain("--cache-size");
    expect(ublk("help -t nosuch").err).toContain("there is no such type");
  });

  test("is the same by every road, and goes to standard output", () => {
    const [one, ...others] = ["add --help", "add -h", "help add"].map((line) => ublk(line));
    expect(one?.out).toContain("USAGE");
    for (const other of others) expect(other).toEqual(one!);
  });

  test.each(["--help", "-h", "help"])("'%s' names every verb", (line) => {
    const { code, out } = ublk(line);
    expect(code).toBe(0);
    for (const verb of Object.keys(table)) expect(out).toContain(verb);
  });

  test("has no colours where nobody sees them", () => {
    expect(ublk("add --help", { FORCE_COLOR: "1" }).out).not.toContain("\u001b");
  });
});

test.each(["--version", "-V", "-v"])("%s says who we are and what we stand on", (line) => {
  const { code, out } = ublk(line);
  expect(code).toBe(0);
  expect(out).toMatch(new RegExp(`^ublk ${version} \\(Bun ${Bun.version}, liburing [\\d.]+\\)\n$`));
});

type Args = Record<string, { alias?: string; description: string }>;
