// Orders version numbers the way people read them, and finds kernels in a list of package names.

/** Numbers by value, everything else by character: 7.2.9 comes before 7.2.12. */
export function byVersion(a: string, b: string): number {
  const left = a.match(/\d+|\D+/g) ?? [];
  const right = b.match(/\d+|\D+/g) ?? [];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const [x = "", y = ""] = [left[i], right[i]];
    const difference = Number(x) - Number(y);
    if (difference) return difference;
    if (Number.isNaN(difference) && x !== y) return x < y ? -1 : 1;
  }
  return 0;
}

export const newest = (names: readonly string[]) => names.toSorted(byVersion).at(-1);

/** Package names of the cloud flavour: small, boots fast, has ublk_drv. */
const CLOUD_KERNEL = /^linux-image-(\d+\.\d+)(\.\d+)?(\+deb\d+)?-cloud-(\w+)$/;

/** Of all kernel packages the newest of a line such as "7.2"; "rc" takes any line. */
export function newestKernel(
  names: readonly string[],
  line: string,
  architecture = "amd64",
): string | undefined {
  return newest(
    names.filter((name) => {
      const found = CLOUD_KERNEL.exec(name);
      return found?.[4] === architecture && (line === "rc" || found[1] === line);
    }),
  );
}

/**
 * Lines of which each offers something that the one before does not, or is what people run; what
 * the archive no longer has is skipped by name.
 */
export const MATRIX = ["6.12", "6.16", "6.18", "7.0", "7.2", "rc"] as const;

/** The newest that Debian backports, and the one of Debian stable. */
export const DEFAULT_KERNELS = "7.2,6.12";

/** "7.2, rc" to its lines; "all" is the whole matrix. */
export function kernelList(text: string): string[] {
  const words = text.split(",").map((word) => word.trim());
  return words.flatMap((word) => (word === "all" ? MATRIX : word === "" ? [] : [word]));
}
