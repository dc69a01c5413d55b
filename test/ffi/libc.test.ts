/** ffi/libc.ts: each call does what its manual page says, or throws its errno. */

import { expect, test } from "bun:test";
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { wordsAt } from "../../ffi/arena.ts";
import { SysError } from "../../ffi/errno.ts";
import * as libc from "../../ffi/libc.ts";
import { fileOf, tempFolder, thrown } from "../temp.ts";
import { isMapped } from "../mappings.ts";

const { EBADF, ENOENT, ESRCH, EINVAL } = constants.errno;
const path = tempFolder();

function errnoOf(action: () => unknown): number {
  const error = thrown(action);
  if (!(error instanceof SysError)) throw error;
  return error.errno;
}

test("a call that fails throws its name, its errno and what it was tried on", () => {
  const error = thrown(() => libc.open(path("missing"), libc.O_RDONLY)) as SysError;
  expect(error).toBeInstanceOf(SysError);
  expect([error.op, error.errno, error.subject]).toEqual(["open", ENOENT, path("missing")]);
});

test("errno is the failed call's own, whatever was called in between", () => {
  for (let round = 0; round < 1000; round++) {
    expect(errnoOf(() => libc.open("/nowhere/at/all", libc.O_RDONLY))).toBe(ENOENT);
    expect(errnoOf(() => libc.close(-1))).toBe(EBADF);
  }
});

test("descriptors are closed when another program is started", () => {
  const fd = libc.open("/dev/null", libc.O_RDWR);
  const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1];
  expect(Number.parseInt(flags!, 8) & libc.O_CLOEXEC).toBe(libc.O_CLOEXEC);
  libc.close(fd);
});

test("clearFileFlags leaves direct IO", () => {
  const fd = libc.open(fileOf(path("direct"), 4096), libc.O_RDWR | libc.O_DIRECT);
  const flags = (): number =>
    Number.parseInt(/flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))![1]!, 8);
  expect(flags() & libc.O_DIRECT).toBe(libc.O_DIRECT);
  libc.clearFileFlags(fd);
  expect(flags() & libc.O_DIRECT).toBe(0);
  libc.close(fd);
});

test("memory is mapped zeroed, filled, copied and unmapped", () => {
  const prot = libc.PROT_READ | libc.PROT_WRITE;
  const address = libc.mmap(8192, prot, libc.MAP_PRIVATE | libc.MAP_ANONYMOUS, -1, 0);
  const words = wordsAt(address, 8192);
  expect(words.every((word) => word === 0)).toBe(true);
  libc.memset(address, 0x11, 4);
  libc.memcpy(address + 4096, address, 8);
  expect([words[0], words[1], words[1024], words[1025]]).toEqual([0x11111111, 0, 0x11111111, 0]);
  expect([address, address + 4096].map(isMapped)).toEqual([true, true]);
  libc.munmap(address, 8192);
  expect([address, address + 4096].map(isMapped)).toEqual([false, false]);
});

test("a file is mapped where it is asked for", () => {
  writeFileSync(path("mapped"), Buffer.concat([Buffer.alloc(4096, 1), Buffer.alloc(4096, 2)]));
  const fd = libc.open(path("mapped"), libc.O_RDONLY);
  const address = libc.mmap(4096, libc.PROT_READ, libc.MAP_SHARED, fd, 4096);
  expect(wordsAt(address, 4)[0]).toBe(0x02020202);
  libc.munmap(address, 4096);
  libc.close(fd);
});

test("statx answers the size of an open file", () => {
  const fd = libc.open(fileOf(path("sized"), 12345), libc.O_RDONLY);
  expect(libc.statx(fd, 0x200).getBigUint64(40, true)).toBe(12345n);
  libc.close(fd);
});

test("fallocate punches a hole", () => {
  writeFileSync(path("hole"), Buffer.alloc(65536, 7));
  const fd = libc.open(path("hole"), libc.O_RDWR);
  libc.fallocate(fd, 3, 0, 4096);
  libc.close(fd);
  const bytes = readFileSync(path("hole"));
  expect([bytes.length, bytes[0], bytes[4095], bytes[4096]]).toEqual([65536, 0, 0, 7]);
});

test("dup2 makes one descriptor another name of the other", () => {
  const from = libc.memfdCreate("one");
  const to = libc.memfdCreate("two");
  libc.dup2(from, to);
  expect(statSync(`/proc/self/fd/${to}`).ino).toBe(statSync(`/proc/self/fd/${from}`).ino);
  libc.close(from);
  libc.close(to);
});

test("pollIn tells a counter that is up from one that is not", () => {
  const [up, down] = [libc.eventfd(1), libc.eventfd(0)];
  expect(libc.pollIn(up, 1000)).toBe(true);
  expect(libc.pollIn(down, 1)).toBe(false);
  libc.close(up);
  libc.close(down);
});

test("pollIn waits for all of its time, whatever signals come", async () => {
  let signals = 0;
  const count = (): void => void signals++;
  process.on("SIGUSR2", count);
  const script = `for i in 1 2 3; do sleep 0.05; kill -USR2 ${process.pid}; done`;
  const child = Bun.spawn(["sh", "-c", script]);
  const fd = libc.eventfd(0);
  const begun = performance.now();
  expect(libc.pollIn(fd, 400)).toBe(false);
  expect(performance.now() - begun).toBeGreaterThanOrEqual(399);
  await child.exited;
  await Bun.sleep(0);
  process.off("SIGUSR2", count);
  expect(signals).toBeGreaterThan(0);
  libc.close(fd);
});

test("a process is waited for by a descriptor of its own", () => {
  const child = Bun.spawn(["cat"], { stdin: "pipe" });
  const fd = libc.pidfdOpen(child.pid);
  expect(libc.pollIn(fd, 0)).toBe(false);
  child.stdin.end();
  expect(libc.pollIn(fd, 5000)).toBe(true);
  libc.close(fd);
  expect(errnoOf(() => libc.pidfdOpen(2 ** 22))).toBe(ESRCH);
});

test("a process is killed by its descriptor, and no other that has its number", async () => {
  const child = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore"] });
  const fd = libc.pidfdOpen(child.pid);
  libc.pidfdKill(fd);
  await child.exited;
  expect(child.signalCode).toBe("SIGKILL");
  expect(errnoOf(() => libc.pidfdKill(fd))).toBe(ESRCH);
  libc.close(fd);
});

test("a thread's name is cut to what the kernel keeps", () => {
  const comm = `/proc/self/task/${libc.gettid()}/comm`;
  const before = readFileSync(comm, "utf8").trim();
  libc.setThreadName("ublk12345q678-and-more");
  expect(readFileSync(comm, "utf8")).toBe("ublk12345q678-a\n");
  libc.setThreadName(before);
});

test("gettid is one of this process's threads", () => {
  expect(readdirSync("/proc/self/task")).toContain(String(libc.gettid()));
});

test("a thread can be bound to the CPUs that it has", () => {
  const status = readFileSync(`/proc/self/task/${libc.gettid()}/status`, "utf8");
  const words = /Cpus_allowed:\s+(\S+)/.exec(status)![1]!.split(",").toReversed();
  const mask = new Uint8Array(new ArrayBuffer(512));
  words.forEach((word, at) => {
    new DataView(mask.buffer).setUint32(at * 4, Number.parseInt(word, 16), true);
  });
  libc.schedSetaffinity(mask);
  expect(errnoOf(() => libc.schedSetaffinity(new Uint8Array(new ArrayBuffer(512))))).toBe(EINVAL);
});
