/** The executables of a release: each for one kind of machine, out of two packages. */

import type { Architecture } from "../vm/apt.ts";

export interface Flavour {
  /** The file's name. */
  name: string;
  /** The package of the npm registry with the Bun for this machine. */
  runtime: string;
  /** Of Debian's liburing. It has none for musl, and there glibc's is carried along too. */
  architecture: Architecture;
}

export const FLAVOURS: readonly Flavour[] = [
  { name: "ublk-linux-x64", runtime: "@oven/bun-linux-x64", architecture: "amd64" },
  {
    name: "ublk-linux-x64-baseline",
    runtime: "@oven/bun-linux-x64-baseline",
    architecture: "amd64",
  },
  { name: "ublk-linux-x64-musl", runtime: "@oven/bun-linux-x64-musl", architecture: "amd64" },
  { name: "ublk-linux-arm64", runtime: "@oven/bun-linux-aarch64", architecture: "arm64" },
];

/** The Bun that makes all of them, whichever one this program runs on. */
export const BUILDER =
  process.arch === "arm64" ? "@oven/bun-linux-aarch64" : "@oven/bun-linux-x64-baseline";
