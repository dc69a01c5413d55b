/** `bun run build`: one executable, dist/ublk, with both entries and a copy of liburing inside. */

import { existsSync } from "node:fs";
import { chmod, copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const OUT = "dist/ublk";
const LIBRARY = "liburing.so.2";
const SYSTEM_LIBRARY_DIRS = [
  "/usr/lib/x86_64-linux-gnu",
  "/usr/lib/aarch64-linux-gnu",
  "/usr/lib64",
];

/** Refuses whatever would run code that is not in the executable: preloads, inspectors, eval. */
const RUNTIME_FLAGS = ["--disallow-code-generation-from-strings=strict"];

process.chdir(import.meta.dir);
if (!existsSync("node_modules/citty")) {
  await Bun.$`${process.execPath} install --frozen-lockfile`.quiet();
  // This process has looked for the folder already and would not see it.
  const again = Bun.spawn([process.execPath, import.meta.path], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  process.exit(await again.exited);
}
const staging = await mkdtemp(join(tmpdir(), "ublk-build-"));
try {
  await stageLibrary(join(staging, LIBRARY));
  await build(staging);
} finally {
  await rm(staging, { recursive: true, force: true });
}
console.log(`${OUT}: ${(Bun.file(OUT).size / 2 ** 20).toFixed(1)} MiB`);

async function build(assets: string): Promise<void> {
  const result = await Bun.build({
    entrypoints: ["src/main.ts", "src/worker.ts"],
    root: "src",
    target: "bun",
    minify: { syntax: true, whitespace: true },
    sourcemap: "none",
    compile: {
      outfile: OUT,
      assets: [join(assets, LIBRARY)],
      execArgv: RUNTIME_FLAGS,
      autoloadBunfig: false,
      autoloadDotenv: false,
      autoloadPackageJson: false,
      autoloadTsconfig: false,
    },
  });
  if (!result.success) throw new AggregateError(result.logs, "the build failed");
  await chmod(OUT, 0o755);
}

/** The system's library when it is installed, otherwise the one in Debian's package. */
async function stageLibrary(to: string): Promise<void> {
  for (const dir of SYSTEM_LIBRARY_DIRS) {
    if (await Bun.file(join(dir, LIBRARY)).exists()) return copyFile(join(dir, LIBRARY), to);
  }
  const dir = await mkdtemp(join(tmpdir(), "ublk-liburing-"));
  await mkdir(join(dir, "tree"));
  await Bun.$`apt-get download liburing2 && dpkg-deb -x liburing2_*.deb tree`.cwd(dir).quiet();
  const [found] = [...new Bun.Glob(`tree/usr/lib/*/${LIBRARY}`).scanSync({ cwd: dir })];
  if (found === undefined) throw new Error(`Debian's liburing2 holds no ${LIBRARY}`);
  await copyFile(join(dir, found), to);
  await rm(dir, { recursive: true, force: true });
}
