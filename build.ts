/**
 * `bun run build`: one executable, dist/ublk, with both entries and a copy of liburing inside.
 *
 * `--all` makes the executables of a release, see test/release/main.ts. That comes back here for
 * each of them, and says which Bun (`--runtime`) and which liburing (`--library`) to put inside.
 */

import { existsSync } from "node:fs";
import { chmod, copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

const LIBRARY = "liburing.so.2";
const DOWNLOAD = { raw: "apt-get download liburing2" };
const SYSTEM_LIBRARY_DIRS = [
  "/usr/lib/x86_64-linux-gnu",
  "/usr/lib/aarch64-linux-gnu",
  "/usr/lib64",
];

/** Refuses whatever would run code that is not in the executable: preloads, inspectors, eval. */
const RUNTIME_FLAGS = ["--disallow-code-generation-from-strings=strict"];

/**
 * What a verb does not need is not read, and what every verb runs is not parsed again. Bytecode of
 * all functions would make the file larger than it may be, for 2 ms.
 */
const QUICK_START = { splitting: true, bytecode: true, bytecodeDepth: 0 };

const { values: asked } = parseArgs({
  options: {
    all: { type: "boolean", default: false },
    out: { type: "string", default: join(import.meta.dir, "dist/ublk") },
    runtime: { type: "string", default: process.execPath },
    library: { type: "string" },
  },
});
const out = resolve(asked.out);
const runtime = resolve(asked.runtime);
const library = asked.library && resolve(asked.library);

process.chdir(import.meta.dir);
if (!existsSync("node_modules/citty")) {
  await Bun.$`${process.execPath} install --frozen-lockfile`.quiet();
  // This process has looked for the folder already and would not see it.
  await become([import.meta.path, ...process.argv.slice(2)]);
}
if (asked.all) await become(["test/release/main.ts"]);

const staging = await mkdtemp(join(tmpdir(), "ublk-build-"));
try {
  await stageLibrary(join(staging, LIBRARY));
  await build(staging);
} finally {
  await rm(staging, { recursive: true, force: true });
}
console.log(`${asked.out}: ${(Bun.file(out).size / 2 ** 20).toFixed(1)} MiB`);

async function become(script: string[]): Promise<never> {
  const child = Bun.spawn([process.execPath, ...script], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  process.exit(await child.exited);
}

async function build(assets: string): Promise<void> {
  const result = await Bun.build({
    entrypoints: ["src/main.ts", "src/worker.ts"],
    root: "src",
    target: "bun",
    format: "esm",
    minify: { syntax: true, whitespace: true },
    sourcemap: "none",
    ...QUICK_START,
    compile: {
      outfile: out,
      executablePath: runtime,
      assets: [join(assets, LIBRARY)],
      execArgv: RUNTIME_FLAGS,
      autoloadBunfig: false,
      autoloadDotenv: false,
      autoloadPackageJson: false,
      autoloadTsconfig: false,
    },
  });
  if (!result.success) throw new AggregateError(result.logs, "the build failed");
  await chmod(out, 0o755);
}

/** The one that was asked for; or the system's, or where there is none the one of Debian. */
async function stageLibrary(to: string): Promise<void> {
  if (library) return copyFile(library, to);
  for (const dir of SYSTEM_LIBRARY_DIRS) {
    if (await Bun.file(join(dir, LIBRARY)).exists()) return copyFile(join(dir, LIBRARY), to);
  }
  const dir = await mkdtemp(join(tmpdir(), "ublk-liburing-"));
  await mkdir(join(dir, "tree"));
  // A machine that has just been set up has no package lists yet.
  const got = await Bun.$`(${DOWNLOAD} || (apt-get -q update && ${DOWNLOAD})) \
    && dpkg-deb -x liburing2_*.deb tree`
    .cwd(dir)
    .quiet()
    .nothrow();
  const [found] = [...new Bun.Glob(`tree/usr/lib/*/${LIBRARY}`).scanSync({ cwd: dir })];
  if (found !== undefined) await copyFile(join(dir, found), to);
  await rm(dir, { recursive: true, force: true });
  if (found !== undefined) return;
  throw new Error(`no ${LIBRARY} here, and apt has none: install liburing2\n${got.stderr}`);
}
